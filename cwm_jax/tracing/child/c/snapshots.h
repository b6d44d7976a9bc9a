/* Snapshots: see `Snapshots` in tracer.py. */

/* Turns values into text: put_value, or `Renderer` where that cannot. */
typedef struct {
    PyObject *function;
    Py_ssize_t max_chars;
} Renderer;

/* A local as the last snapshot showed it. */
typedef struct {
    PyObject *name, *value; /* `value` only if it is immutable: unchanged as long as it is the same object */
    Text text;
    bool here;
} Local;

typedef struct {
    Renderer *renderer;
    PyObject *last; /* the frame of the last snapshot */
    Local *seen;    /* its locals */
    Py_ssize_t seen_count, seen_room;
} Snapshots;

static void forget(Snapshots *self) {
    for (Py_ssize_t i = 0; i < self->seen_count; i++) {
        Py_CLEAR(self->seen[i].name);
        Py_CLEAR(self->seen[i].value);
    }
    self->seen_count = 0;
    Py_CLEAR(self->last);
}

static int show(Renderer *self, Text *text, PyObject *value, PyObject *name, const char *what) {
    Py_ssize_t start = text->size;
    bool scarce = PyThreadState_Get()->recursion_remaining < 4 * MAX_NESTING; /* see DEEPER */
    int done = scarce ? 0 : put_value(text, value, start + self->max_chars, 0);
    if (done)
        return done < 0 ? -1 : 0;
    text->size = start;
    PyObject *shown = PyObject_CallFunction(self->function, "OOs", value, name, what);
    if (!shown)
        return -1;
    int failed = put_escaped(text, shown);
    Py_DECREF(shown);
    return failed;
}

/* The place of a local: mostly where it was in the snapshot before. */
static Local *find(Snapshots *self, Py_ssize_t place, PyObject *name) {
    if (place < self->seen_count && self->seen[place].name == name)
        return &self->seen[place];
    for (Py_ssize_t i = 0; i < self->seen_count; i++)
        if (self->seen[i].name == name || PyUnicode_Compare(self->seen[i].name, name) == 0)
            return &self->seen[i];
    if (self->seen_count == self->seen_room) {
        Py_ssize_t room = 2 * self->seen_room + 8;
        Local *seen = PyMem_Realloc(self->seen, room * sizeof(Local));
        if (!seen) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(seen + self->seen_room, 0, (room - self->seen_room) * sizeof(Local));
        self->seen = seen;
        self->seen_room = room;
    }
    Local *local = &self->seen[self->seen_count++];
    local->name = Py_NewRef(name);
    local->text.size = -1;
    return local;
}

static bool is_constant(PyObject *value) {
    PyTypeObject *kind = Py_TYPE(value);
    return kind == &PyLong_Type || kind == &PyUnicode_Type || kind == &PyFloat_Type || kind == &PyBool_Type ||
           kind == &PyBytes_Type || kind == &PyComplex_Type || value == Py_None || value == Py_Ellipsis;
}

static int take_local(Snapshots *self, Text *record, Py_ssize_t place, PyObject *name, PyObject *value) {
    Local *local = find(self, place, name);
    if (!local)
        return -1;
    local->here = true;
    DO(place ? PUT(record, ", \"") : PUT(record, "\""));
    DO(put_name(record, name));
    DO(PUT(record, "\": \""));
    if (local->value == value)
        return PUT(record, "..\"");
    Py_ssize_t start = record->size;
    DO(show(self->renderer, record, value, name, "the local"));
    Py_ssize_t size = record->size - start;
    Py_XSETREF(local->value, is_constant(value) ? Py_NewRef(value) : NULL);
    if (local->text.size == size && memcmp(local->text.data, record->data + start, size) == 0) {
        record->size = start;
        return PUT(record, "..\"");
    }
    local->text.size = 0;
    DO(put(&local->text, record->data + start, size));
    return PUT(record, "\"");
}

static void drop_deleted(Snapshots *self) {
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < self->seen_count; i++) {
        Local local = self->seen[i];
        if (local.here) {
            self->seen[i] = self->seen[kept];
            self->seen[kept++] = local;
        } else {
            Py_CLEAR(self->seen[i].name);
            Py_CLEAR(self->seen[i].value);
        }
    }
    self->seen_count = kept;
}

static int take_all(Snapshots *self, Text *record, PyObject *values) {
    PyObject *name, *value;
    Py_ssize_t at = 0, place = 0, size = PyDict_GET_SIZE(values), left = size;
    for (Py_ssize_t i = 0; i < self->seen_count; i++)
        self->seen[i].here = false;
    while (PyDict_Next(values, &at, &name, &value)) {
        left--;
        if (!PyUnicode_CheckExact(name))
            continue; /* no variable but a key put into locals() by force */
        Py_INCREF(name);
        Py_INCREF(value);
        int failed = take_local(self, record, place++, name, value);
        Py_DECREF(name);
        Py_DECREF(value);
        DO(failed);
        if (PyDict_GET_SIZE(values) != size || left < 0) {
            PyErr_SetString(PyExc_RuntimeError, "dictionary changed during iteration");
            return -1;
        }
    }
    if (place != self->seen_count)
        drop_deleted(self);
    return 0;
}

/* Writes the locals of a frame. */
static int take(Snapshots *self, Text *record, PyFrameObject *frame) {
    if ((PyObject *)frame != self->last) {
        forget(self);
        self->last = Py_NewRef(frame);
    }
    PyObject *values = PyFrame_GetLocals(frame);
    if (!values)
        return -1;
    int failed = PUT(record, "{");
    if (!failed && PyDict_Check(values)) /* else a class body whose metaclass prepared something of its own */
        failed = DEEPER(take_all(self, record, values));
    Py_DECREF(values);
    DO(failed);
    return PUT(record, "}");
}
