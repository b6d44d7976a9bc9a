"""Another Python turns what it reads to upper case."""

import subprocess
import sys

FILTER = "import sys\nfor line in sys.stdin:\n    sys.stdout.write(line.upper())\n"


def main():
    words = "one\ntwo\n"
    upper = subprocess.check_output([sys.executable, "-c", FILTER], input=words, text=True)
    print(upper.split())


main()
