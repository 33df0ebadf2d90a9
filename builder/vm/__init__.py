"""Virtual machines: boot an image the way Azure and Hyper-V do, and log in to it."""
