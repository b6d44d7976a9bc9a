/* Text that grows. Functions that may fail return 0, or -1 with an exception set. */

typedef struct {
    char *data;
    Py_ssize_t size, room;
} Text;

static int reserve(Text *text, Py_ssize_t more) {
    if (text->room - text->size >= more)
        return 0;
    Py_ssize_t room = 2 * text->room + more + 64;
    char *data = PyMem_Realloc(text->data, room);
    if (!data) {
        PyErr_NoMemory();
        return -1;
    }
    text->data = data;
    text->room = room;
    return 0;
}

static int put(Text *text, const char *data, Py_ssize_t size) {
    if (reserve(text, size) < 0)
        return -1;
    memcpy(text->data + text->size, data, size);
    text->size += size;
    return 0;
}

#define PUT(text, literal) put(text, literal, sizeof(literal) - 1)

static int put_number(Text *text, long long number) {
    char digits[24], *at = digits + sizeof digits;
    unsigned long long rest = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number;
    do
        *--at = '0' + rest % 10;
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    return put(text, at, digits + sizeof digits - at);
}

/* What stands between the quotes of `to_json(string)`. */
static int put_escaped(Text *text, PyObject *string) {
    PyObject *json = PyObject_CallOneArg(to_json, string);
    if (!json)
        return -1;
    int failed = put(text, (const char *)PyUnicode_1BYTE_DATA(json) + 1, PyUnicode_GET_LENGTH(json) - 2);
    Py_DECREF(json);
    return failed;
}

static int put_name(Text *text, PyObject *name) {
    if (!PyUnicode_IS_COMPACT_ASCII(name))
        return put_escaped(text, name);
    const unsigned char *data = PyUnicode_1BYTE_DATA(name);
    Py_ssize_t size = PyUnicode_GET_LENGTH(name);
    for (Py_ssize_t i = 0; i < size; i++)
        if (data[i] < ' ' || data[i] > '~' || data[i] == '"' || data[i] == '\\')
            return put_escaped(text, name);
    return put(text, (const char *)data, size);
}

#define STEP(done) do { int step = (done); if (step <= 0) return step; } while (0)
#define DO(failed) do { if ((failed) < 0) return -1; } while (0)
