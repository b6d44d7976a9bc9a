/* The parent's side: records of the journal as frames. A program can write into the journal, so nothing is taken for
   granted: a record that is not letter for letter as the tracer writes them is left to the reader in recorder.py. */

enum { MOST_LOCALS = 64 }; /* of a frame that is read here: names are compared each with each */

typedef struct {
    const char *at, *end;
    Text text;                                  /* a string with its escapes undone */
    PyObject *names[MOST_LOCALS];               /* those of the record before, which are mostly those of this one */
    PyObject *unchanged[MOST_LOCALS];           /* each with ".." */
    PyObject *lines, *frame, *events, *no_line; /* the source lines by number; the type of frames */
    PyObject *fields[5], *dots;                 /* its fields */
} Reader;

static bool skip(Reader *reader, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(reader->end - reader->at) < size || memcmp(reader->at, word, size))
        return false;
    reader->at += size;
    return true;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The letter that an escape stands for, from behind its backslash; -1 if there is none, or none of ASCII. */
static int read_escape(Reader *reader) {
    static const char letters[] = "\"\\nrtbf", meant[] = "\"\\\n\r\t\b\f";
    if (reader->at == reader->end)
        return -1;
    char c = *reader->at++;
    const char *found = c ? strchr(letters, c) : NULL;
    if (found)
        return meant[found - letters];
    if (c != 'u' || reader->end - reader->at < 4 || memcmp(reader->at, "00", 2))
        return -1;
    int high = hex_digit(reader->at[2]), low = hex_digit(reader->at[3]);
    reader->at += 4;
    return high < 0 || high > 7 || low < 0 ? -1 : 16 * high + low;
}

/* The bytes of a JSON string from behind its opening quote, and the quote that closes it. 0: not as we write them. */
static int read_string(Reader *reader, const char **data, Py_ssize_t *size) {
    const char *start = reader->at, *quote = memchr(start, '"', reader->end - start);
    if (!quote)
        return 0;
    if (!memchr(start, '\\', quote - start)) {
        *data = start;
        *size = quote - start;
        reader->at = quote + 1;
        for (const char *c = start; c < quote; c++)
            if (*c < ' ')
                return 0;
        return 1;
    }
    if (reserve(&reader->text, reader->end - start) < 0)
        return -1;
    char *to = reader->text.data;
    while (reader->at < reader->end && *reader->at != '"') {
        int c = *reader->at++;
        if (c < ' ' || (c == '\\' && (c = read_escape(reader)) < 0))
            return 0;
        *to++ = c;
    }
    *data = reader->text.data;
    *size = to - reader->text.data;
    return skip(reader, "\"");
}

static PyObject *text_of(const char *data, Py_ssize_t size) {
    PyObject *text = PyUnicode_New(size, 127);
    if (text && size > 1) /* shorter ones are shared */
        memcpy(PyUnicode_1BYTE_DATA(text), data, size);
    else if (text && size)
        Py_SETREF(text, PyUnicode_FromStringAndSize(data, size));
    return text;
}

/* The name at this place, the object that the record before had if it is the same one. */
static int read_name(Reader *reader, Py_ssize_t place) {
    const char *data;
    Py_ssize_t size;
    STEP(skip(reader, place ? ", \"" : "\""));
    STEP(read_string(reader, &data, &size));
    PyObject **name = &reader->names[place];
    if (!*name || PyUnicode_GET_LENGTH(*name) != size || memcmp(PyUnicode_1BYTE_DATA(*name), data, size)) {
        PyObject *read = PyUnicode_FromStringAndSize(data, size);
        if (!read)
            return -1;
        PyUnicode_InternInPlace(&read);
        Py_XSETREF(*name, read);
        Py_XSETREF(reader->unchanged[place], PyTuple_Pack(2, read, reader->dots));
        if (!reader->unchanged[place])
            return -1;
    }
    for (Py_ssize_t i = 0; i < place; i++)
        if (reader->names[i] == *name)
            return 0;
    return skip(reader, ": \"");
}

static PyObject *read_pair(Reader *reader, Py_ssize_t place, const char *data, Py_ssize_t size) {
    if (size == 2 && memcmp(data, "..", 2) == 0)
        return Py_NewRef(reader->unchanged[place]);
    PyObject *value = text_of(data, size);
    PyObject *pair = value ? PyTuple_Pack(2, reader->names[place], value) : NULL;
    Py_XDECREF(value);
    return pair;
}

/* `{"name": "value", …}` as a tuple of pairs. */
static int read_locals(Reader *reader, PyObject **locals) {
    PyObject *pairs[MOST_LOCALS];
    Py_ssize_t count = 0;
    int done = 1;
    STEP(skip(reader, "{"));
    while (done > 0 && !skip(reader, "}")) {
        const char *data;
        Py_ssize_t size;
        done = count == MOST_LOCALS ? 0 : read_name(reader, count);
        if (done > 0)
            done = read_string(reader, &data, &size);
        if (done > 0) {
            pairs[count] = read_pair(reader, count, data, size);
            done = pairs[count] ? 1 : -1;
            count += done > 0;
        }
    }
    *locals = done > 0 ? PyTuple_New(count) : NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (*locals)
            PyTuple_SET_ITEM(*locals, i, pairs[i]);
        else
            Py_DECREF(pairs[i]);
    return done > 0 && !*locals ? -1 : done;
}

static PyObject *new_frame(Reader *reader, int event, long line, PyObject *locals, PyObject *value) {
    PyObject *number = PyLong_FromLong(line);
    PyObject *source = number ? PyDict_GetItemWithError(reader->lines, number) : NULL;
    PyObject *frame = PyErr_Occurred() ? NULL : PyType_GenericAlloc((PyTypeObject *)reader->frame, 0);
    PyObject *values[] = {PyTuple_GET_ITEM(reader->events, event), source ? source : reader->no_line, locals, value,
                          number};
    for (int i = 0; frame && i < 5; i++) /* past the `__setattr__` that keeps frames as they are */
        if (PyObject_GenericSetAttr(frame, reader->fields[i], values[i] ? values[i] : Py_None) < 0)
            Py_CLEAR(frame);
    Py_XDECREF(number);
    return frame;
}

static int read_frame(Reader *reader, PyObject **frame) {
    PyObject *locals = NULL, *value = NULL;
    int done, event = reader->end - reader->at < 4 ? -1 : reader->at[1] - '0', digits = 0;
    long line = 0;
    if (event < ON_CALL || event > ON_EXCEPTION || reader->at[0] != '[' || reader->at[2] != ',')
        return 0;
    for (reader->at += 3; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9' && digits < 9; digits++)
        line = 10 * line + *reader->at++ - '0';
    if (!digits || (digits > 1 && reader->at[-digits] == '0') || !skip(reader, ","))
        return 0;
    if (event == ON_CALL || event == ON_LINE)
        done = read_locals(reader, &locals);
    else {
        const char *data;
        Py_ssize_t size;
        STEP(skip(reader, "\""));
        STEP(read_string(reader, &data, &size));
        value = text_of(data, size);
        done = value ? 1 : -1;
    }
    if (done > 0 && (!skip(reader, "]") || reader->at != reader->end))
        done = 0;
    if (done > 0 && !(*frame = new_frame(reader, event, line, locals, value)))
        done = -1;
    Py_XDECREF(locals);
    Py_XDECREF(value);
    return done;
}

/* One record: into `known` if it is a frame, else to the end of `rest`. */
static int read_record(Reader *reader, PyObject *record, PyObject *known, PyObject *rest) {
    PyObject *frame;
    int done = 0;
    if (PyUnicode_CheckExact(record) && PyUnicode_IS_COMPACT_ASCII(record)) {
        reader->at = (const char *)PyUnicode_1BYTE_DATA(record);
        reader->end = reader->at + PyUnicode_GET_LENGTH(record);
        done = read_frame(reader, &frame);
    }
    if (done == 0)
        return PyList_Append(rest, record);
    if (done > 0) {
        done = PyDict_SetItem(known, record, frame);
        Py_DECREF(frame);
    }
    return done;
}

/* read_frames(records, lines, events, frame, known): puts the frame of each record into `known`; the other records. */
static PyObject *read_frames(PyObject *Py_UNUSED(module), PyObject *args) {
    static const char *const fields[] = {"event", "source", "locals", "value", "line"};
    PyObject *records, *known, *rest = PyList_New(0);
    Reader reader = {0};
    int failed = !rest || !PyArg_ParseTuple(args, "O!O!O!O!O!", &PyList_Type, &records, &PyDict_Type, &reader.lines,
                                            &PyTuple_Type, &reader.events, &PyType_Type, &reader.frame, &PyDict_Type,
                                            &known);
    failed = failed || !(reader.no_line = PyUnicode_FromString("\n")) || !(reader.dots = PyUnicode_FromString(".."));
    for (int i = 0; i < 5 && !failed; i++)
        failed = !(reader.fields[i] = PyUnicode_InternFromString(fields[i]));
    if (!failed && PyTuple_GET_SIZE(reader.events) != ON_EXCEPTION + 1) {
        PyErr_SetString(PyExc_ValueError, "there are four events");
        failed = 1;
    }
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(records); i++)
        failed = read_record(&reader, PyList_GET_ITEM(records, i), known, rest) < 0;
    Py_XDECREF(reader.no_line);
    Py_XDECREF(reader.dots);
    for (int i = 0; i < 5; i++)
        Py_XDECREF(reader.fields[i]);
    for (int i = 0; i < MOST_LOCALS; i++) {
        Py_XDECREF(reader.names[i]);
        Py_XDECREF(reader.unchanged[i]);
    }
    PyMem_Free(reader.text.data);
    if (failed)
        Py_CLEAR(rest);
    return rest;
}
