"""The kernel's headers, inlined into `fastlimit._core`, their only user. Nothing here runs on its own."""
