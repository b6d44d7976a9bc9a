def longest_word(sentence):
    longest = ''
    for word in sentence.split(' '):
        if len(word) > len(longest):
            longest = word
    return longest.upper()


def main():  # << START_OF_TRACE
    return longest_word('we like green tea')
