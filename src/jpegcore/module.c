/* wsistore.codecs._jpegcore: regions of baseline JPEG tiles, decoded by themselves.
 *
 * What it gives is, bit for bit, what libjpeg-turbo gives for the whole tile (accurate DCT,
 * triangle-filter upsampling), cropped. It decodes what is sound and plain; about all else it
 * says no, and the caller asks a general decoder, whose verdict counts.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "layout.h"

#define CAPSULE "wsistore.codecs._jpegcore.header"

#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
#else
#define decode_avx2 decode_plain
static int has_avx2(void) { return 0; }
#endif

static int (*decode_one)(const Job *, uint8_t *) = decode_plain;

static void free_header(PyObject *capsule) { PyMem_Free(PyCapsule_GetPointer(capsule, CAPSULE)); }

PyDoc_STRVAR(
    prepare_doc,
    "prepare(stream_header)\n--\n\n"
    "Read a complete stream up to its scan's data; None if it is not for this decoder."
);

static PyObject *prepare(PyObject *self, PyObject *bytes) {
    (void)self;
    char *at;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(bytes, &at, &size) < 0) return NULL;
    Header *header = PyMem_Malloc(sizeof *header);
    if (!header) return PyErr_NoMemory();
    if (!parse_header(header, (const uint8_t *)at, (size_t)size)) {
        PyMem_Free(header);
        Py_RETURN_NONE;
    }
    PyObject *capsule = PyCapsule_New(header, CAPSULE, free_header);
    if (!capsule) PyMem_Free(header);
    return capsule;
}

/* What a call holds until it is done. */
typedef struct {
    Py_ssize_t count, blocks_held;
    Job *jobs;
    Py_buffer *blocks;
    PyObject **headers; /* so that none goes while the GIL is released */
    Py_buffer out;
} Call;

static int begin_call(Call *call, Py_ssize_t count) {
    memset(call, 0, sizeof *call);
    call->count = count;
    call->jobs = PyMem_Calloc((size_t)count + 1, sizeof *call->jobs);
    call->blocks = PyMem_Calloc((size_t)count + 1, sizeof *call->blocks);
    call->headers = PyMem_Calloc((size_t)count + 1, sizeof *call->headers);
    if (call->jobs && call->blocks && call->headers) return 1;
    PyErr_NoMemory();
    return 0;
}

static void end_call(Call *call) {
    for (Py_ssize_t k = 0; k < call->blocks_held; k++) {
        PyBuffer_Release(&call->blocks[k]);
        Py_DECREF(call->headers[k]);
    }
    if (call->out.obj) PyBuffer_Release(&call->out);
    PyMem_Free(call->jobs);
    PyMem_Free(call->blocks);
    PyMem_Free(call->headers);
}

/* Fill in a job but for where its px go; 0 with an exception set if it makes no sense. */
static int begin_job(
    Call *call, PyObject *capsule, PyObject *block, Py_ssize_t data_at, Range region, int scale,
    int strict
) {
    Job *job = &call->jobs[call->blocks_held];
    Py_buffer *held = &call->blocks[call->blocks_held];
    job->header = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!job->header) return 0;
    if (PyObject_GetBuffer(block, held, PyBUF_SIMPLE) < 0) return 0;
    call->headers[call->blocks_held++] = Py_NewRef(capsule);
    int fits = region.x0 >= 0 && region.y0 >= 0 && region.x0 < region.x1 && region.y0 < region.y1;
    fits = fits && (scale == 1 || scale == 2);
    fits = fits && region.x1 <= ceil_div(job->header->width, scale);
    fits = fits && region.y1 <= ceil_div(job->header->height, scale);
    if (!fits || data_at < 0 || data_at > held->len) {
        PyErr_SetString(PyExc_ValueError, "the region or the data are not inside the tile");
        return 0;
    }
    job->data = (const uint8_t *)held->buf + data_at;
    job->size = (size_t)(held->len - data_at);
    job->scale = scale;
    job->region = region;
    job->strict = strict;
    return 1;
}

/* Do the jobs without the GIL; a byte for each says whether it was done. */
static PyObject *run_call(Call *call) {
    size_t most = 0;
    for (Py_ssize_t k = 0; k < call->count; k++) {
        size_t size = room_for(&call->jobs[k]);
        if (size > most) most = size;
    }
    uint8_t *room = PyMem_Malloc(most + 1);
    PyObject *done = PyBytes_FromStringAndSize(NULL, call->count);
    char *flags = done ? PyBytes_AsString(done) : NULL;
    if (!room || !flags) {
        PyMem_Free(room);
        Py_XDECREF(done);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t k = 0; k < call->count; k++) flags[k] = (char)decode_one(&call->jobs[k], room);
    Py_END_ALLOW_THREADS;
    PyMem_Free(room);
    return done;
}

PyDoc_STRVAR(
    decode_doc,
    "decode(header, block, data_at, x, y, out, scale, strict)\n--\n\n"
    "Decode the region at (x, y) px that fills `out`, (h, w, 3) uint8, in full (`scale` 1) or at\n"
    "half the size (2, px are those of the half); False if that is for another decoder to do\n"
    "or to judge. The data begin at byte `data_at` of `block`; `strict` reads them to their end."
);

static PyObject *decode(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *capsule, *block, *target;
    Py_ssize_t data_at;
    int x, y, scale, strict;
    if (!PyArg_ParseTuple(args, "OOniiOip", &capsule, &block, &data_at, &x, &y, &target, &scale, &strict)) {
        return NULL;
    }
    Call call;
    PyObject *result = NULL;
    if (!begin_call(&call, 1)) goto end;
    if (PyObject_GetBuffer(target, &call.out, PyBUF_STRIDES | PyBUF_WRITABLE) < 0) goto end;
    const Py_buffer *out = &call.out;
    int fits = out->ndim == 3 && out->itemsize == 1 && out->shape[2] == 3 && out->strides[2] == 1 &&
               out->strides[1] == 3 && out->shape[0] <= MAX_SIDE && out->shape[1] <= MAX_SIDE;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "out is not (h, w, 3) uint8 with its px side by side");
        goto end;
    }
    if (x < 0 || x > MAX_SIDE || y < 0 || y > MAX_SIDE) x = y = -1;
    Range region = {x, y, x + (int)out->shape[1], y + (int)out->shape[0]};
    if (!begin_job(&call, capsule, block, data_at, region, scale, strict)) goto end;
    call.jobs[0].out = out->buf;
    call.jobs[0].stride = out->strides[0];
    PyObject *done = run_call(&call);
    if (done) result = PyBool_FromLong(*PyBytes_AsString(done));
    Py_XDECREF(done);
end:
    end_call(&call);
    return result;
}

PyDoc_STRVAR(
    decode_many_doc,
    "decode_many(jobs, out, row_bytes, scale, strict)\n--\n\n"
    "Decode regions of many tiles into one C-contiguous array of bytes, in one go without the\n"
    "GIL. A job is (header, block, data_at, x, y, width, height, offset): as in `decode`, with\n"
    "the first px of the region at byte `offset` of `out` and its rows `row_bytes` apart.\n"
    "A byte for each job is returned: 0 where it is for another decoder."
);

static int begin_many(
    Call *call, PyObject *jobs, Py_ssize_t row_bytes, int scale, int strict
) {
    for (Py_ssize_t k = 0; k < call->count; k++) {
        PyObject *capsule, *block, *item = PyList_GetItem(jobs, k);
        Py_ssize_t data_at, offset;
        int x, y, width, height;
        if (!item || !PyArg_ParseTuple(
                item, "OOniiiin", &capsule, &block, &data_at, &x, &y, &width, &height, &offset
            )) {
            return 0;
        }
        if (x < 0 || y < 0 || x > MAX_SIDE || y > MAX_SIDE || width > MAX_SIDE || height > MAX_SIDE) {
            x = y = -1;
        }
        Range region = {x, y, x + width, y + height};
        if (!begin_job(call, capsule, block, data_at, region, scale, strict)) return 0;
        Py_ssize_t last = (Py_ssize_t)(height - 1) * row_bytes + 3 * (Py_ssize_t)width;
        if (offset < 0 || last > call->out.len || offset > call->out.len - last) {
            PyErr_SetString(PyExc_ValueError, "the region does not fit the output");
            return 0;
        }
        call->jobs[k].out = (uint8_t *)call->out.buf + offset;
        call->jobs[k].stride = row_bytes;
    }
    return 1;
}

static PyObject *decode_many(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *jobs, *target, *result = NULL;
    Py_ssize_t row_bytes;
    int scale, strict;
    if (!PyArg_ParseTuple(args, "OOnip", &jobs, &target, &row_bytes, &scale, &strict)) return NULL;
    Py_ssize_t count = PyList_Size(jobs);
    if (count < 0) return NULL;
    if (row_bytes < 0 || row_bytes > ((Py_ssize_t)1 << 40)) {
        PyErr_SetString(PyExc_ValueError, "row_bytes makes no sense");
        return NULL;
    }
    Call call;
    if (begin_call(&call, count) && PyObject_GetBuffer(target, &call.out, PyBUF_CONTIG) == 0 &&
        begin_many(&call, jobs, row_bytes, scale, strict)) {
        result = run_call(&call);
    }
    end_call(&call);
    return result;
}

static PyMethodDef functions[] = {
    {"prepare", prepare, METH_O, prepare_doc},
    {"decode", decode, METH_VARARGS, decode_doc},
    {"decode_many", decode_many, METH_VARARGS, decode_many_doc},
    {NULL, NULL, 0, NULL},
};

static int start_module(PyObject *module) {
    int vectorized = has_avx2();
    if (vectorized) decode_one = decode_avx2;
    return PyModule_AddIntConstant(module, "VECTORIZED", vectorized);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start_module}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_jpegcore",
    .m_doc = "Regions of baseline JPEG tiles, decoded by themselves.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__jpegcore(void);
PyMODINIT_FUNC PyInit__jpegcore(void) { return PyModuleDef_Init(&definition); }
