def reverse_words(sentence):
    words = sentence.split()
    reversed_sentence = ""
    for word in words:
        reversed_sentence = word + " " + reversed_sentence
    return reversed_sentence.strip()


def main():  # << START_OF_TRACE
    return reverse_words("the quick fox")
