/* The tracer: see tracer.py. */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *entry, *file, *run;          /* the marked function's code, its file's name, who runs it */
    PyObject *entered, *error;             /* the entry's frame, the type of the last exception */
    Journal *journal;
    Renderer renderer;
    Snapshots snapshots;
    Py_ssize_t *cost, line_count; /* characters of a frame at each line, beside its payload */
    Py_ssize_t max_frames, max_depth, room, frames, depth, exception_at;
    Text record;
    bool busy;
} Tracer;

static int finish(Tracer *self, const char *verdict, const char *detail) {
    PyObject *done = PyObject_CallMethod(self->run, "finish", "ss", verdict, detail);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int begin(Tracer *self, PyFrameObject *frame, int event, int *line) {
    *line = Py_MAX(PyFrame_GetLineNumber(frame), 0);
    self->record.size = 0;
    DO(PUT(&self->record, "["));
    DO(put_number(&self->record, event));
    DO(PUT(&self->record, ","));
    DO(put_number(&self->record, *line));
    return PUT(&self->record, ",");
}

static int count(Tracer *self, int line, Py_ssize_t payload) {
    self->frames++;
    self->room -= payload + (line >= 1 && line <= self->line_count ? self->cost[line - 1] : FRAME_CHARS);
    if (self->frames > self->max_frames)
        DO(finish(self, "frame_limit", ""));
    if (self->room < 0)
        DO(finish(self, "trace_limit", ""));
    return 0;
}

static int add(Tracer *self) {
    DO(PUT(&self->record, "]"));
    DO(journal_write(self->journal, self->record.data, self->record.size));
    self->journal->at += self->record.size + 1;
    return 0;
}

static int emit(Tracer *self, int line, Py_ssize_t payload) {
    return DEEPER(count(self, line, payload) < 0 ? -1 : DEEPER(add(self)));
}

static int emit_locals(Tracer *self, PyFrameObject *frame, int event) {
    int line;
    DO(begin(self, frame, event, &line));
    Py_ssize_t start = self->record.size;
    DO(take(&self->snapshots, &self->record, frame));
    return emit(self, line, self->record.size - start);
}

static int emit_value(Tracer *self, PyFrameObject *frame, int event, PyObject *value, const char *what) {
    int line;
    forget(&self->snapshots);
    DO(begin(self, frame, event, &line));
    Py_ssize_t start = self->record.size;
    PyCodeObject *code = PyFrame_GetCode(frame);
    int failed = PUT(&self->record, "\"");
    if (!failed)
        failed = show(&self->renderer, &self->record, value, code->co_name, what);
    Py_DECREF(code);
    DO(failed);
    DO(PUT(&self->record, "\""));
    return emit(self, line, self->record.size - start);
}

static int give_up(Tracer *self) {
    if (PyErr_ExceptionMatches(PyExc_RecursionError)) /* the reference has no calls left to say more either */
        return -1;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    const char *verdict = type == PyExc_MemoryError ? "memory_limit" : "interrupted";
    PyObject *name = PyType_GetName((PyTypeObject *)type);
    const char *detail = name ? PyUnicode_AsUTF8(name) : NULL;
    int failed = detail ? finish(self, verdict, detail) : -1;
    Py_XDECREF(name);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return failed;
}

/* `returned`, `raised`, or NULL for a generator or coroutine that only pauses. */
static const char *how_left(Tracer *self, PyFrameObject *frame) {
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *bytes = PyCode_GetCode(code);
    Py_DECREF(code);
    if (!bytes)
        return NULL;
    unsigned char opcode = PyBytes_AS_STRING(bytes)[PyFrame_GetLasti(frame)];
    Py_DECREF(bytes);
    if (opcode == RETURN_VALUE)
        return "returned";
    bool raised_here = self->exception_at == self->frames - 1; /* as where generator.throw() finds no handler */
    return raised_here || (opcode != YIELD_VALUE && opcode != RESUME) ? "raised" : NULL;
}

/* 1: this call is recorded. 0: it is not ours. */
static int on_call(Tracer *self, PyFrameObject *frame) {
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is_entry = (PyObject *)code == self->entry;
    int ours = code->co_filename == self->file ? 1 : PyObject_RichCompareBool(code->co_filename, self->file, Py_EQ);
    Py_DECREF(code);
    DO(ours);
    if (!self->entered) {
        if (!is_entry)
            return 0;
        self->entered = Py_NewRef(frame);
        PyObject *done = PyObject_CallMethod(self->run, "enter", NULL);
        Py_XDECREF(done);
        DO(done ? 0 : -1);
    } else if (!ours)
        return 0;
    if (++self->depth > self->max_depth)
        DO(finish(self, "depth_limit", ""));
    forget(&self->snapshots);
    if (emit_locals(self, frame, ON_CALL) < 0)
        DO(give_up(self));
    return 1;
}

static int on_return(Tracer *self, PyFrameObject *frame, PyObject *value) {
    self->depth--;
    DO(emit_value(self, frame, ON_RETURN, value, "the return value of"));
    if ((PyObject *)frame != self->entered)
        return 1;
    const char *verdict = how_left(self, frame);
    if (!verdict)
        return PyErr_Occurred() ? -1 : 1;
    PyObject *error = self->error ? self->error : Py_None;
    PyObject *done = PyObject_CallMethod(self->run, "leave", "sO", verdict, error);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int on_exception(Tracer *self, PyFrameObject *frame, PyObject *exception) {
    if (!PyTuple_Check(exception) || PyTuple_GET_SIZE(exception) < 2) {
        PyErr_SetString(PyExc_TypeError, "an exception event brings a tuple");
        return -1;
    }
    DO(emit_value(self, frame, ON_EXCEPTION, PyTuple_GET_ITEM(exception, 1), "the exception in"));
    self->exception_at = self->frames;
    Py_XSETREF(self->error, Py_NewRef(PyTuple_GET_ITEM(exception, 0)));
    return 1;
}

/* The events that follow a call that is recorded; 0 where the entry was left. */
static int on_event(Tracer *self, PyFrameObject *frame, PyObject *event, PyObject *arg) {
    int done = 1;
    if (PyUnicode_CompareWithASCIIString(event, "line") == 0)
        done = emit_locals(self, frame, ON_LINE) < 0 ? -1 : 1;
    else if (PyUnicode_CompareWithASCIIString(event, "return") == 0)
        done = on_return(self, frame, arg);
    else if (PyUnicode_CompareWithASCIIString(event, "exception") == 0)
        done = on_exception(self, frame, arg);
    if (done < 0)
        return give_up(self) < 0 ? -1 : 1;
    return done;
}

/* What `sys.settrace` calls: function(frame, event, arg). */
static PyObject *tracer_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *Py_UNUSED(names)) {
    Tracer *self = (Tracer *)callable;
    if (PyVectorcall_NARGS(flags) != 3 || !PyFrame_Check(args[0]) || !PyUnicode_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "a tracer is for the interpreter to call");
        return NULL;
    }
    if (self->busy) /* called by a program's own hand, not by the interpreter */
        Py_RETURN_NONE;
    self->busy = true;
    Py_INCREF(self); /* whoever calls may let go of it while a `__repr__` runs */
    PyFrameObject *frame = (PyFrameObject *)args[0];
    bool called = PyUnicode_CompareWithASCIIString(args[1], "call") == 0;
    int done = DEEPER(called ? on_call(self, frame) : on_event(self, frame, args[1], args[2]));
    PyObject *next = done < 0 ? NULL : Py_NewRef(done ? callable : Py_None);
    self->busy = false;
    Py_DECREF(self);
    return next;
}

static int tracer_traverse(Tracer *self, visitproc visit, void *arg) {
    Py_VISIT(self->entry);
    Py_VISIT(self->renderer.function);
    Py_VISIT(self->run);
    Py_VISIT(self->entered);
    Py_VISIT(self->error);
    Py_VISIT(self->snapshots.last);
    return 0;
}

static int tracer_clear(Tracer *self) {
    forget(&self->snapshots);
    Py_CLEAR(self->entry);
    Py_CLEAR(self->renderer.function);
    Py_CLEAR(self->run);
    Py_CLEAR(self->entered);
    Py_CLEAR(self->error);
    return 0;
}

static void tracer_dealloc(Tracer *self) {
    PyObject_GC_UnTrack(self);
    tracer_clear(self);
    Py_CLEAR(self->file);
    Py_CLEAR(self->journal);
    for (Py_ssize_t i = 0; i < self->snapshots.seen_room; i++)
        PyMem_Free(self->snapshots.seen[i].text.data);
    PyMem_Free(self->snapshots.seen);
    PyMem_Free(self->cost);
    PyMem_Free(self->record.data);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject TracerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "native.Tracer",
    .tp_basicsize = sizeof(Tracer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Tracer, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_traverse = (traverseproc)tracer_traverse,
    .tp_clear = (inquiry)tracer_clear,
    .tp_dealloc = (destructor)tracer_dealloc,
};

/* A cap by its name, cut to what leaves room for sums. */
static Py_ssize_t cap(PyObject *caps, const char *name) {
    PyObject *value = PyMapping_GetItemString(caps, name);
    Py_ssize_t cap = value ? PyNumber_AsSsize_t(value, NULL) : -1;
    Py_XDECREF(value);
    return Py_MIN(cap, PY_SSIZE_T_MAX / 2);
}

static int read_lines(Tracer *self, PyObject *lines) {
    self->line_count = PyList_GET_SIZE(lines);
    self->cost = PyMem_New(Py_ssize_t, self->line_count + 1);
    if (!self->cost) {
        PyErr_NoMemory();
        return -1;
    }
    self->room -= FRAME_CHARS;
    for (Py_ssize_t i = 0; i < self->line_count; i++) {
        Py_ssize_t size = PyUnicode_GetLength(PyList_GET_ITEM(lines, i));
        self->cost[i] = size + FRAME_CHARS;
        self->room -= size;
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* make_tracer(entry, lines, caps, render, run) */
static PyObject *make_tracer(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *entry, *lines, *caps, *render, *run;
    if (!PyArg_ParseTuple(args, "O!O!OOO", &PyCode_Type, &entry, &PyList_Type, &lines, &caps, &render, &run))
        return NULL;
    Tracer *self = PyObject_GC_New(Tracer, &TracerType);
    if (!self)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof(Tracer) - sizeof(PyObject));
    self->vectorcall = tracer_call;
    self->entry = Py_NewRef(entry);
    self->file = Py_NewRef(((PyCodeObject *)entry)->co_filename);
    self->renderer = (Renderer){Py_NewRef(render), cap(caps, "max_value_chars")};
    self->snapshots.renderer = &self->renderer;
    self->run = Py_NewRef(run);
    self->max_frames = cap(caps, "max_frames");
    self->max_depth = cap(caps, "max_depth");
    self->room = cap(caps, "max_trace_chars");
    PyObject_GC_Track(self);
    PyObject *journal = PyObject_GetAttrString(run, "journal");
    if (journal && !PyObject_TypeCheck(journal, &JournalType))
        PyErr_SetString(PyExc_TypeError, "the native tracer writes to the native journal alone");
    self->journal = (Journal *)journal;
    if (PyErr_Occurred() || read_lines(self, lines) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}
