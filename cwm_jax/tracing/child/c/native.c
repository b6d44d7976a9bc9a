/* The recorder's hot path in C for CPython 3.11: `Journal` and `make_tracer`, twins of those in
   ../journal.py and ../tracer.py.

   Those two stay the reference, and tests/tracing/test_native.py holds both to the same bytes. `sys.settrace` calls the
   tracer as it calls the reference's functions, so locals, their order, and how long objects live are CPython's own
   doing. Values whose text runs no Python code are written here; every other goes to `Renderer`.
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <opcode.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

enum { ON_CALL, ON_LINE, ON_RETURN, ON_EXCEPTION };
enum { FRAME_CHARS = 56, MAX_NESTING = 16 };

static PyObject *to_json;

#include "text.h"
#include "journal.h"
#include "values.h"
#include "snapshots.h"
#include "tracer.h"
#include "frames.h"

static PyMethodDef functions[] = {
    {"make_tracer", make_tracer, METH_VARARGS, NULL},
    {"read_frames", read_frames, METH_VARARGS, NULL},
    {NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_native(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *json = PyImport_ImportModule("_json");
    if (!module || !json || PyType_Ready(&TracerType) < 0 || PyModule_AddType(module, &JournalType) < 0)
        return NULL;
    to_json = PyObject_GetAttrString(json, "encode_basestring_ascii");
    Py_DECREF(json);
    return to_json ? module : NULL;
}
