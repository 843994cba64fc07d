/* The C stacks of native memory as a section of a file, see
   Doc/library/tracemalloc_file.rst. */

#include "reader.h"
#include "writer.h"

/* --- Writing */

static void
write_text(struct writer *w, const char *p, uint64_t left)
{
    while (left > 0) {
        uint64_t n = left < MAX_RECORD ? left : MAX_RECORD;
        room(w);
        memcpy(w->buffer + w->used, p, n);
        w->used += n;
        p += n;
        left -= n;
    }
}

static void
write_modules(struct writer *w, const struct snapshot_native *native)
{
    put(w, native->nmodules);
    for (uint32_t i = 0; i < native->nmodules; i++) {
        const struct snapshot_module *module = &native->modules[i];
        room(w);
        put(w, module->path_size);
        put(w, module->base);
        assert(module->id_size <= sizeof(module->id));
        put(w, module->id_size);
        memcpy(w->buffer + w->used, module->id, module->id_size);
        w->used += module->id_size;
    }
    write_text(w, native->text, native->text_size);
}

static void
write_stacks(struct writer *w, const struct snapshot_native *native)
{
    put(w, native->nplaces);
    for (uint32_t i = 0; i < native->nplaces; i++) {
        room(w);
        put(w, native->places[i].module);
        put(w, native->places[i].offset);
    }
    put(w, native->nframes);
    put(w, native->nstacks);
    const uint32_t *frame = native->frames;
    for (uint32_t i = 0; i < native->nstacks; i++) {
        assert(frame == native->frames + native->stacks[i].first);
        room(w);
        put(w, native->stacks[i].n);
        for (uint32_t j = 0; j < native->stacks[i].n; j++) {
            room(w);
            put(w, *frame++);
        }
    }
}

void
_PySnapshot_WriteNative(struct writer *w, const struct tracer_snapshot *s)
{
    room(w);
    put(w, s->native != NULL);
    if (s->native == NULL) {
        return;
    }
    write_modules(w, s->native);
    write_stacks(w, s->native);
    for (uint32_t i = 0; i < s->nclasses; i++) {
        room(w);
        if (s->classes[i].domain == SNAPSHOT_NATIVE_DOMAIN) {
            put(w, s->classes[i].stack);
        }
    }
}

/* --- Reading */

static void
read_modules(struct reader *r, struct snapshot_native *native)
{
    native->modules = get_array32(r, 3, sizeof(*native->modules),
                                  &native->nmodules);
    for (uint32_t i = 0; i < native->nmodules && !r->failed; i++) {
        struct snapshot_module *module = &native->modules[i];
        memset(module, 0, sizeof(*module));
        module->path = native->text_size;
        module->path_size = get_index(r, SNAPSHOT_NONE, "path too long");
        module->base = get(r);
        module->id_size = get_index(r, SNAPSHOT_BUILD_ID + 1,
                                    "build ID too long");
        if (module->id_size > (size_t)(r->end - r->p)) {
            fail(r, "section ends inside a record");
            break;
        }
        memcpy(module->id, r->p, module->id_size);
        r->p += module->id_size;
        native->text_size += module->path_size;
    }
    if (r->failed || native->text_size > (size_t)(r->end - r->p)) {
        fail(r, "section ends inside a path");
        return;
    }
    native->text = _PySnapshot_Array(native->text_size, 1);
    if (native->text == NULL) {
        fail(r, NULL);
        return;
    }
    memcpy(native->text, r->p, native->text_size);
    for (uint32_t i = 0; i < native->nmodules && !r->failed; i++) {
        const char *p = (const char *)r->p + native->modules[i].path;
        const char *bad = _PySnapshot_FindBadUTF8(
            p, p + native->modules[i].path_size);
        if (bad != NULL) {
            fail_at(r, (const uint8_t *)bad, "bad UTF-8");
        }
    }
    r->p += r->failed ? 0 : native->text_size;
}

static void
read_places(struct reader *r, struct snapshot_native *native)
{
    native->places = get_array32(r, 2, sizeof(*native->places),
                                 &native->nplaces);
    for (uint32_t i = 0; i < native->nplaces && !r->failed; i++) {
        native->places[i].module = get_index(r, native->nmodules,
                                             "no such module");
        native->places[i].offset = get(r);
    }
}

static void
read_stacks(struct reader *r, struct snapshot_native *native)
{
    native->frames = get_array(r, 1, sizeof(*native->frames),
                               &native->nframes);
    native->stacks = get_array32(r, 1, sizeof(*native->stacks),
                                 &native->nstacks);
    uint64_t used = 0;
    for (uint32_t i = 0; i < native->nstacks && !r->failed; i++) {
        uint64_t left = native->nframes - used;
        uint32_t n = get_index(r, SNAPSHOT_NONE, "C stack too deep");
        if (n > left || (i == 0 && n != 0)) {
            fail(r, "more frames than there are, or of no C stack");
            break;
        }
        native->stacks[i] = (struct snapshot_stack){used, n};
        for (uint32_t j = 0; j < n; j++) {
            native->frames[used++] = get_index(r, native->nplaces,
                                               "no such place");
        }
    }
    if (used != native->nframes) {
        fail(r, "fewer frames than there are");
    }
}

void
_PySnapshot_ReadNative(struct reader *r, struct tracer_snapshot *s)
{
    if (get_index(r, 2, "flag is neither 0 nor 1") == 0) {
        return;
    }
    s->native = _PySnapshot_Zeroed(1, sizeof(*s->native));
    if (s->native == NULL) {
        fail(r, NULL);
        return;
    }
    read_modules(r, s->native);
    read_places(r, s->native);
    read_stacks(r, s->native);
    for (uint32_t i = 0; i < s->nclasses && !r->failed; i++) {
        if (s->classes[i].domain == SNAPSHOT_NATIVE_DOMAIN) {
            s->classes[i].stack = get_index(
                r, s->native->nstacks + (s->native->nstacks == 0),
                "no such C stack");
        }
    }
}
