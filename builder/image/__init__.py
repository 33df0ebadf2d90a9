"""The image: the file people use. A fixed VHD is the disk's bytes and one 512-byte footer."""
