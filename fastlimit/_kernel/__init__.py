"""The kernel's headers: inlined into `fastlimit._core`, which is their only user. Nothing here runs on its own."""
