"""Publishing: the gate, the upload, the release record. Nothing uncertified leaves the build directory.

Nothing is imported here: the upload engine needs neither recipes nor certificates, and who only moves bytes
should not pay for them in memory.
"""
