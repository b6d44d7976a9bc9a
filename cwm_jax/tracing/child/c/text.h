/* Text that grows. Functions that may fail return 0, or -1 with an exception set. */

typedef struct {
    char *data;
    Py_ssize_t size, room;
} Text;

static __attribute__((noinline)) int grow(Text *text, Py_ssize_t more) {
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

static inline int reserve(Text *text, Py_ssize_t more) {
    return text->room - text->size >= more ? 0 : grow(text, more);
}

/* Inlined, so that the size of a literal is known where it is copied. */
static inline __attribute__((always_inline)) int put(Text *text, const char *data, Py_ssize_t size) {
    if (reserve(text, size) < 0)
        return -1;
    memcpy(text->data + text->size, data, size);
    text->size += size;
    return 0;
}

#define PUT(text, literal) put(text, literal, sizeof(literal) - 1)

static int put_number(Text *text, long long number) {
    unsigned long long rest = number < 0 ? 0ULL - (unsigned long long)number : (unsigned long long)number, power = 1;
    int digits = 1;
    if (reserve(text, 24) < 0)
        return -1;
    if (number < 0)
        text->data[text->size++] = '-';
    for (; rest / 10 >= power; digits++)
        power *= 10;
    text->size += digits;
    for (char *at = text->data + text->size; digits--; rest /= 10)
        *--at = '0' + rest % 10;
    return 0;
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

/* Evaluates `done` one call deeper. Calls are counted as the reference makes them, so that a program meets its recursion
   limit at the same place. */
#define DEEPER(done) (Py_EnterRecursiveCall("") ? -1 : back_from(done))

static inline int back_from(int done) {
    Py_LeaveRecursiveCall();
    return done;
}
