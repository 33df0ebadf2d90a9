"""The image: the file people use. A fixed VHD, and the same disk in further formats."""
