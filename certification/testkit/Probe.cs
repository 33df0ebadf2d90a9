// Runs in the guest: proves that its .NET runtime compiles, collects, threads, throws and reads files.
// Prints `key=value` lines that certification.testkit.expected_output computes independently.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using System.Threading;

static class Probe
{
    static int Main(string[] arguments)
    {
        var numbers = new List<long>();
        foreach (string argument in arguments) numbers.Add(long.Parse(argument));

        long squares = 0;
        foreach (long number in numbers) squares += number * number;
        Console.WriteLine("sum-of-squares=" + squares);

        int primes = 0;
        for (int n = 2; n <= 2000; n++) if (IsPrime(n)) primes++;
        Console.WriteLine("primes=" + primes);

        string joined = string.Join(" ", arguments);
        Console.WriteLine("fnv1a=" + Fnv1a(joined).ToString("x16"));
        Console.WriteLine("threads=" + CountWithThreads());

        var sorted = new List<long>(numbers);
        sorted.Sort();
        Console.WriteLine("sorted=" + string.Join(",", sorted));
        Console.WriteLine("roundtrip=" + ThroughAFile(joined));
        Console.WriteLine("exception=" + Throw(numbers.Count - numbers.Count));

        for (int i = 0; i < 50; i++) { var garbage = new byte[1 << 20]; garbage[i] = 1; }
        GC.Collect();
        Console.WriteLine("collections=" + (GC.CollectionCount(0) > 0 ? "some" : "none"));
        return 0;
    }

    static bool IsPrime(int n)
    {
        for (int d = 2; d * d <= n; d++) if (n % d == 0) return false;
        return true;
    }

    static ulong Fnv1a(string text)
    {
        ulong value = 0xcbf29ce484222325;
        foreach (byte b in Encoding.UTF8.GetBytes(text)) unchecked { value = (value ^ b) * 0x100000001b3; }
        return value;
    }

    static long CountWithThreads()
    {
        long total = 0;
        var threads = new List<Thread>();
        for (int i = 0; i < 8; i++)
        {
            var thread = new Thread(() => { for (int n = 0; n < 1000; n++) Interlocked.Add(ref total, n); });
            threads.Add(thread);
            thread.Start();
        }
        foreach (Thread thread in threads) thread.Join();
        return total;
    }

    static string ThroughAFile(string text)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, text);
            return File.ReadAllText(path);
        }
        finally { File.Delete(path); }
    }

    static string Throw(int zero)
    {
        try { return (1 / zero).ToString(); }
        catch (DivideByZeroException error) { return "caught " + error.GetType().Name; }
    }
}
