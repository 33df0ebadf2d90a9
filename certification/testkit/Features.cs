// Runs in the guest: proves what programs take from the system beside the runtime. The argument chooses: cultures, zones, crypto.
// Prints `key=value` lines; what they must be stands in certification.testkit.
using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;

static class Features
{
    static int Main(string[] arguments)
    {
        switch (arguments[0])
        {
            case "cultures": Cultures(); break;
            case "zones": Zones(); break;
            case "crypto": Crypto(arguments[1]); break;
            default: return 2;
        }
        return 0;
    }

    static void Cultures()
    {
        var german = new CultureInfo("de-DE");
        var japanese = new CultureInfo("ja-JP");
        Console.WriteLine("number=" + 1234567.891.ToString("N2", german));
        Console.WriteLine("date=" + new DateTime(2026, 3, 5).ToString("MMMM", german));
        Console.WriteLine("month=" + Hex(new DateTime(2026, 3, 5).ToString("dddd", japanese)));
        Console.WriteLine("sorted=" + (string.Compare("Zebra", "\u00c4pfel", german, CompareOptions.None) > 0));
    }

    static void Zones()
    {
        Console.WriteLine("utc=" + TimeZoneInfo.FindSystemTimeZoneById("UTC").BaseUtcOffset.TotalMinutes);
        TimeZoneInfo berlin = TimeZoneInfo.FindSystemTimeZoneById("Europe/Berlin");
        Console.WriteLine("winter=" + berlin.GetUtcOffset(new DateTime(2026, 1, 15, 12, 0, 0, DateTimeKind.Utc)).TotalMinutes);
        Console.WriteLine("summer=" + berlin.GetUtcOffset(new DateTime(2026, 7, 15, 12, 0, 0, DateTimeKind.Utc)).TotalMinutes);
    }

    static void Crypto(string text)
    {
        using (var sha = SHA256.Create()) Console.WriteLine("sha256=" + Hex(sha.ComputeHash(Encoding.UTF8.GetBytes(text))));
        using (var key = RSA.Create())
        {
            byte[] data = Encoding.UTF8.GetBytes(text);
            byte[] signature = key.SignData(data, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            bool good = key.VerifyData(data, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            data[0] ^= 1;
            bool forged = key.VerifyData(data, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            Console.WriteLine("signature=" + good + "," + forged);
        }
        // A certificate and its key come as a file: the class library that this is compiled against can't make one.
        var certificate = new X509Certificate2(File.ReadAllBytes("server.pfx"), "probe");
        Console.WriteLine("tls=" + Handshake(certificate, text));
    }

    static string Handshake(X509Certificate2 certificate, string text)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        string heard = "nothing";
        var server = new Thread(() =>
        {
            using (var client = listener.AcceptTcpClient())
            using (var stream = new SslStream(client.GetStream()))
            {
                stream.AuthenticateAsServer(certificate, false, SslProtocols.Tls12, false);
                heard = new StreamReader(stream).ReadLine();
            }
        });
        server.IsBackground = true;
        server.Start();
        using (var client = new TcpClient("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port))
        using (var stream = new SslStream(client.GetStream(), false, (sender, peer, chain, errors) => true))
        {
            stream.AuthenticateAsClient("localhost", null, SslProtocols.Tls12, false);
            var writer = new StreamWriter(stream);
            writer.WriteLine(text);
            writer.Flush();
            server.Join(20000);
            return heard + " over " + stream.SslProtocol;
        }
    }

    static string Hex(string text) { return Hex(Encoding.UTF8.GetBytes(text)); }

    static string Hex(byte[] bytes) { return BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant(); }
}
