/* The journal: see journal.py. */


typedef struct {
    PyObject_HEAD
    char *map;
    Py_ssize_t capacity, at;
} Journal;

static int journal_write(Journal *self, const char *record, Py_ssize_t size) {
    if (self->at + size + 2 > self->capacity) {
        PyErr_SetString(PyExc_ValueError, "the journal is full");
        return -1;
    }
    memcpy(self->map + self->at + 1, record, size);
    self->map[self->at + 1 + size] = 0;
    __atomic_store_n(self->map + self->at, '\n', __ATOMIC_RELEASE); /* it counts from here on */
    return 0;
}

static int journal_map(Journal *self, int file) {
    char *map = mmap(NULL, self->capacity, PROT_READ | PROT_WRITE, file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED,
                     file, 0);
    if (map == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (self->map)
        munmap(self->map, self->capacity);
    self->map = map;
    self->map[self->at = 0] = 0;
    return 0;
}

static PyObject *journal_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"file", "capacity", NULL};
    int file;
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "in", names, &file, &capacity))
        return NULL;
    Journal *self = (Journal *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->capacity = capacity;
    if (journal_map(self, file) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *journal_rewind(Journal *self, PyObject *Py_UNUSED(none)) {
    self->map[self->at = 0] = 0;
    Py_RETURN_NONE;
}

static PyObject *journal_note(Journal *self, PyObject *record) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(record, &size);
    if (!data || journal_write(self, data, size) < 0)
        return NULL;
    return PyLong_FromSsize_t(size);
}

static PyObject *journal_add(Journal *self, PyObject *record) {
    PyObject *size = journal_note(self, record);
    if (size)
        self->at += PyLong_AsSsize_t(size) + 1;
    return size;
}

static PyObject *journal_drop_note(Journal *self, PyObject *Py_UNUSED(none)) {
    self->map[self->at] = 0;
    Py_RETURN_NONE;
}

static PyObject *journal_detach(Journal *self, PyObject *Py_UNUSED(none)) {
    if (journal_map(self, -1) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef journal_methods[] = {
    {"rewind", (PyCFunction)journal_rewind, METH_NOARGS, NULL},
    {"add", (PyCFunction)journal_add, METH_O, NULL},
    {"note", (PyCFunction)journal_note, METH_O, NULL},
    {"drop_note", (PyCFunction)journal_drop_note, METH_NOARGS, NULL},
    {"detach", (PyCFunction)journal_detach, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject JournalType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "native.Journal",
    .tp_basicsize = sizeof(Journal),
    .tp_new = journal_new,
    .tp_methods = journal_methods,
};
