# .NET 3.1 looks for ICU up to version 70; the variable names the one of this distribution.
export CLR_ICU_VERSION_OVERRIDE=72.1
