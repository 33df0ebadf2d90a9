"""What sos must know of this distribution: each vendor adds its own policy to sos."""

from sos.policies.redhat import OS_RELEASE, RedHatPolicy


class HallmarkSamplePolicy(RedHatPolicy):
    distro = "Hallmark Sample"
    vendor = "Hallmark"
    vendor_url = ""

    @classmethod
    def check(cls, remote=""):
        if remote:
            return cls.distro in remote
        with open(OS_RELEASE) as stream:
            return any(line.strip() == 'ID="hallmark-sample"' for line in stream)

    def dist_version(self):
        return 9
