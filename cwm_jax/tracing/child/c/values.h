/* Values, as they stand between the quotes of a JSON string. 1: written. 0: `Renderer` has to do it. -1: error. */

static int put_string(Text *text, PyObject *value, Py_ssize_t limit, int nesting) {
    Py_ssize_t size = PyUnicode_GET_LENGTH(value);
    const char *data = (const char *)PyUnicode_1BYTE_DATA(value);
    if (!PyUnicode_IS_COMPACT_ASCII(value) || size > limit || (nesting && memmem(data, size, " at 0x", 6)))
        return 0; /* in a container even a string loses what looks like an address */
    bool doubled = memchr(data, '\'', size) && !memchr(data, '"', size);
    if (reserve(text, 5 * size + 4) < 0)
        return -1;
    char *to = text->data + text->size;
    if (doubled)
        *to++ = '\\';
    *to++ = doubled ? '"' : '\'';
    for (const char *end = data + size; data < end; data++) {
        unsigned char c = *data;
        if (c == '\\')
            to = memcpy(to, "\\\\\\\\", 4), to += 4;
        else if (c == '"')
            *to++ = '\\', *to++ = '"';
        else if (c == '\'' && !doubled)
            to = memcpy(to, "\\\\'", 3), to += 3;
        else if (c >= ' ' && c <= '~')
            *to++ = c;
        else {
            *to++ = '\\', *to++ = '\\';
            if (c == '\t' || c == '\n' || c == '\r')
                *to++ = c == '\t' ? 't' : c == '\n' ? 'n' : 'r';
            else
                *to++ = 'x', *to++ = "0123456789abcdef"[c >> 4], *to++ = "0123456789abcdef"[c & 15];
        }
    }
    if (doubled)
        *to++ = '\\';
    *to++ = doubled ? '"' : '\'';
    text->size = to - text->data;
    return 1;
}

static int put_value(Text *text, PyObject *value, Py_ssize_t limit, int nesting);

static int put_items(Text *text, PyObject *const *items, Py_ssize_t count, Py_ssize_t limit, int nesting) {
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i)
            DO(PUT(text, ", "));
        STEP(put_value(text, items[i], limit, nesting));
    }
    return 1;
}

static int put_dict(Text *text, PyObject *dict, Py_ssize_t limit, int nesting) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    for (bool first = true; PyDict_Next(dict, &at, &key, &value); first = false) {
        if (!first)
            DO(PUT(text, ", "));
        STEP(put_value(text, key, limit, nesting));
        DO(PUT(text, ": "));
        STEP(put_value(text, value, limit, nesting));
    }
    return 1;
}

static int put_set(Text *text, PyObject *set, Py_ssize_t limit, int nesting) {
    PyObject *key;
    Py_ssize_t at = 0;
    Py_hash_t hash;
    for (bool first = true; _PySet_NextEntry(set, &at, &key, &hash); first = false) {
        if (!first)
            DO(PUT(text, ", "));
        STEP(put_value(text, key, limit, nesting));
    }
    return 1;
}

static int put_container(Text *text, PyObject *value, PyTypeObject *kind, Py_ssize_t limit, int nesting) {
    if (nesting > MAX_NESTING) /* deep, or inside itself */
        return 0;
    if (kind == &PyList_Type || kind == &PyTuple_Type) {
        Py_ssize_t size = PySequence_Fast_GET_SIZE(value);
        DO(kind == &PyList_Type ? PUT(text, "[") : PUT(text, "("));
        STEP(put_items(text, PySequence_Fast_ITEMS(value), size, limit, nesting));
        if (kind == &PyTuple_Type && size == 1)
            DO(PUT(text, ","));
        DO(kind == &PyList_Type ? PUT(text, "]") : PUT(text, ")"));
    } else if (kind == &PyDict_Type) {
        DO(PUT(text, "{"));
        STEP(put_dict(text, value, limit, nesting));
        DO(PUT(text, "}"));
    } else if (!PySet_GET_SIZE(value)) {
        DO(kind == &PySet_Type ? PUT(text, "set()") : PUT(text, "frozenset()"));
    } else {
        DO(kind == &PySet_Type ? PUT(text, "{") : PUT(text, "frozenset({"));
        STEP(put_set(text, value, limit, nesting));
        DO(kind == &PySet_Type ? PUT(text, "}") : PUT(text, "})"));
    }
    return 1;
}

/* `limit` is the most bytes that `text` may hold: JSON is never shorter than what it stands for. */
static int put_value(Text *text, PyObject *value, Py_ssize_t limit, int nesting) {
    PyTypeObject *kind = Py_TYPE(value);
    if (kind == &PyLong_Type) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow)
            return 0;
        DO(put_number(text, number));
    } else if (kind == &PyUnicode_Type)
        STEP(put_string(text, value, limit - text->size, nesting));
    else if (kind == &PyBool_Type)
        DO(value == Py_True ? PUT(text, "True") : PUT(text, "False"));
    else if (value == Py_None)
        DO(PUT(text, "None"));
    else if (kind == &PyFloat_Type) {
        char *digits = PyOS_double_to_string(PyFloat_AS_DOUBLE(value), 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
        int failed = digits ? put(text, digits, strlen(digits)) : -1;
        PyMem_Free(digits);
        DO(failed);
    } else if (kind == &PyList_Type || kind == &PyTuple_Type || kind == &PyDict_Type || PyAnySet_CheckExact(value))
        STEP(put_container(text, value, kind, limit, nesting + 1));
    else
        return 0;
    return text->size <= limit;
}
