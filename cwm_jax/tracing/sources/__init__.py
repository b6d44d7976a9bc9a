"""Where programs come from: generated families, functions of code on disk, contest solutions, the tests of projects."""
