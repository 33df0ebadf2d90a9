"""Until when runtimes and releases are supported, and on what; for warnings while a recipe is written.

The certification has its own facts about support: this table only saves a build that would not be certified.
"""

from __future__ import annotations

from datetime import date

__all__ = ["DOTNET_END", "DOTNET_OFFERED", "RELEASE_END"]

# https://github.com/dotnet/core/blob/main/release-notes/releases-index.json
DOTNET_END = {
    "3.1": date(2022, 12, 13),
    "5.0": date(2022, 5, 10),
    "6.0": date(2024, 11, 12),
    "7.0": date(2024, 5, 14),
    "8.0": date(2026, 11, 10),
    "9.0": date(2026, 11, 10),
    "10.0": date(2028, 11, 14),
}

# Channels in the distributions' own repositories; dotnet/docs docs/core/install/linux-rhel.md.
DOTNET_OFFERED = {8: ("8.0", "9.0", "10.0"), 9: ("8.0", "9.0", "10.0"), 10: ("8.0", "9.0", "10.0")}

# End of maintenance by distribution and major release: Red Hat's life cycle policy, the CentOS project.
RELEASE_END = {
    ("rhel", 7): date(2024, 6, 30),
    ("rhel", 8): date(2029, 5, 31),
    ("rhel", 9): date(2032, 5, 31),
    ("rhel", 10): date(2035, 5, 31),
    ("centos", 7): date(2024, 6, 30),
    ("centos", 8): date(2024, 5, 31),
    ("centos", 9): date(2027, 5, 31),
    ("centos", 10): date(2030, 1, 1),
}
