"""A pool of threads counts vowels; the results keep the order of the words."""

from concurrent.futures import ThreadPoolExecutor


def vowels(word):
    return sum(letter in "aeiou" for letter in word)


def main():
    words = ["queue", "rhythm", "banana"]
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = list(pool.map(vowels, words))
    print(dict(zip(words, found)))


main()
