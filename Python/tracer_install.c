/* Which allocator functions are installed while tracing, and what they wrap.

   The fused ones, of the object and memory domains, are installed only while
   pymalloc's own functions serve both and one GIL protects everything; the
   general ones of tracer_hooks.c in any other case, and for the raw domain.
   Other code may wrap our functions, or may have wrapped them: its functions
   then stay installed. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_hide.h"
#include "pycore_tracer_hooks.h"
#include "pycore_tracer_install.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_record.h"
#include "pycore_tracer_state.h"

static int
is_same(const PyMemAllocatorEx *a, const PyMemAllocatorEx *b)
{
    return a->ctx == b->ctx && a->malloc == b->malloc && a->calloc == b->calloc
           && a->realloc == b->realloc && a->free == b->free;
}

static int
is_ours(const PyMemAllocatorEx *functions)
{
    return _PyTracer_IsGeneral(functions)
           || functions->free == _PyTracer_Fused(TRACER_OBJECT).free;
}

/* What tracing wraps, and what was installed last, by domain. */
static PyMemAllocatorEx *const belows[] = {
    &_PyTracer_below.raw, &_PyTracer_below.mem, &_PyTracer_below.obj};
static PyMemAllocatorEx installed[3];
static_assert(PYMEM_DOMAIN_RAW == 0 && PYMEM_DOMAIN_MEM == 1
              && PYMEM_DOMAIN_OBJ == 2, "domains are indices");

/* Do these functions of other code call ours? */
static int
ends_in_ours(const PyMemAllocatorEx *functions)
{
    _PyTracer_idle = 0;
    void *block = functions->malloc(functions->ctx, 1);
    if (block != NULL) {
        functions->free(functions->ctx, block);
    }
    return _PyTracer_idle;
}

/* Code that wrapped our functions may have put its wrappers back after stop():
   if our functions called them, they would call each other endlessly.  Our own
   functions may be there, too; they are not to be wrapped. */
int
_PyTracer_FindAllocators(PyMemAllocatorEx *found)
{
    static const char *const names[] = {"raw", "mem", "obj"};
    _PyTracer_ASSERT_UNLOCKED();
    for (int domain = 0; domain < 3; domain++) {
        const PyMemAllocatorEx *below = belows[domain];
        PyMem_GetAllocator((PyMemAllocatorDomain)domain, &found[domain]);
        if (!is_ours(&found[domain]) && !is_same(&found[domain], below)
            && below->malloc != NULL && ends_in_ours(&found[domain]))
        {
            PyErr_Format(PyExc_RuntimeError,
                         "cannot trace: the allocator of the domain %s is a "
                         "wrapper that was put back after stop() and calls "
                         "the tracer's functions; remove it first",
                         names[domain]);
            return -1;
        }
    }
    return 0;
}

int
_PyTracer_TakeAllocators(const PyMemAllocatorEx *found)
{
    for (int domain = 0; domain < 3; domain++) {
        PyMemAllocatorEx current;
        _PyTracer_GetAllocator((PyMemAllocatorDomain)domain, &current);
        if (!is_same(&current, &found[domain])) {
            return -1;
        }
    }
    for (int domain = 0; domain < 3; domain++) {
        /* A thread without the GIL may still be inside our functions, and read
           it. */
        if (!is_ours(&found[domain])
            && !is_same(&found[domain], belows[domain]))
        {
            *belows[domain] = found[domain];
        }
    }
    return 0;
}

/* Other code may have wrapped our functions in the meantime: then its
   functions stay, and so do those that it wrapped.  Are these the right
   ones? */
static int
install(PyMemAllocatorDomain domain, PyMemAllocatorEx functions, int again)
{
    PyMemAllocatorEx current;
    _PyTracer_GetAllocator(domain, &current);
    if (!again || is_same(&current, &installed[domain])) {
        if (!is_same(&current, &functions)) {
            _PyTracer_SetAllocator(domain, &functions);
        }
        installed[domain] = functions;
    }
    return is_same(&functions, &installed[domain]);
}

void
_PyTracer_InstallAllocators(int again)
{
    assert(_PyTracer.tracing);
    _PyTracer.whole = _PyTracer.limit > 1 || _PyTracer_AnyHidden();
    int fused = _PyTracer_CanFuse() && !_PyTracer.many_gils;
    uint32_t short_way = fused && !_PyTracer_small_fallback;
    if (_PyTracer.short_way != short_way) {
        _PyTracer.short_way = short_way;      // others read it if it stays
    }
    (void)install(PYMEM_DOMAIN_RAW, _PyTracer_General(PYMEM_DOMAIN_RAW),
                  again);
    int memory = install(PYMEM_DOMAIN_MEM,
                         fused ? _PyTracer_Fused(TRACER_MEMORY)
                               : _PyTracer_General(PYMEM_DOMAIN_MEM), again);
    int object = install(PYMEM_DOMAIN_OBJ,
                         fused ? _PyTracer_Fused(TRACER_OBJECT)
                               : _PyTracer_General(PYMEM_DOMAIN_OBJ), again);
    _PyTracer.blind = _PyTracer.watched && !(memory && object);
}

void
_PyTracer_RemoveAllocators(void)
{
    _PyTracer.blind = 0;
    _PyTracer.short_way = 0;
    _PyTracer_SetAllocator(PYMEM_DOMAIN_RAW, &_PyTracer_below.raw);
    _PyTracer_SetAllocator(PYMEM_DOMAIN_MEM, &_PyTracer_below.mem);
    _PyTracer_SetAllocator(PYMEM_DOMAIN_OBJ, &_PyTracer_below.obj);
}
