/* Memory over time as a section of a file, see
   Doc/library/tracemalloc_file.rst.  Each note is written as differences from
   the one before. */

#include "reader.h"
#include "writer.h"

/* --- Writing */

void
_PySnapshot_WriteHistory(struct writer *w, const struct tracer_snapshot *s)
{
    (void)s;                      // filters and the like have none
    struct snapshot_note last = {0};
    put(w, w->beside->nnotes);
    for (size_t i = 0; i < w->beside->nnotes; i++) {
        const struct snapshot_note *note = &w->beside->notes[i];
        room(w);
        put(w, (uint64_t)(note->time - last.time));
        put_difference(w, (uint64_t)note->traced, (uint64_t)last.traced);
        put(w, (uint64_t)(note->most_traced - note->traced));
        put_difference(w, (uint64_t)note->peak, (uint64_t)last.peak);
        put_difference(w, (uint64_t)note->rss, (uint64_t)last.rss);
        put(w, (uint64_t)(note->most_rss - note->rss));
        put_difference(w, (uint64_t)note->blocks, (uint64_t)last.blocks);
        for (int j = 0; j < SNAPSHOT_GENERATIONS; j++) {
            put_difference(w, note->collections[j], last.collections[j]);
        }
        put(w, note->snapshots);
        last = *note;
    }
}

/* --- Reading */

/* A non-negative number, given by its difference from the last one. */
static int64_t
get_signed(struct reader *r, int64_t last)
{
    const uint8_t *start = r->p;
    uint64_t value = (uint64_t)last + _PySnapshot_UnZigZag(get(r));
    if (value > INT64_MAX) {
        fail_at(r, start, "number of a note too large");
        return 0;
    }
    return (int64_t)value;
}

/* A number given by how much it is above another. */
static int64_t
get_above(struct reader *r, int64_t least)
{
    const uint8_t *start = r->p;
    uint64_t step = get(r);
    if (step > (uint64_t)(INT64_MAX - least)) {
        fail_at(r, start, "number of a note too large");
        return least;
    }
    return least + (int64_t)step;
}

static void
read_note(struct reader *r, struct snapshot_note *note)
{
    note->time = get_above(r, note->time);
    note->traced = get_signed(r, note->traced);
    note->most_traced = get_above(r, note->traced);
    note->peak = get_signed(r, note->peak);
    note->rss = get_signed(r, note->rss);
    note->most_rss = get_above(r, note->rss);
    note->blocks = get_signed(r, note->blocks);
    for (int i = 0; i < SNAPSHOT_GENERATIONS; i++) {
        note->collections[i] = get_near(r, note->collections[i], UINT32_MAX,
                                        "number of a note too large");
    }
    note->snapshots = get_word(r, "number of a note too large");
}

void
_PySnapshot_ReadHistory(struct reader *r, struct tracer_snapshot *s)
{
    struct snapshot_note note = {0};
    s->notes = get_array32(r, SNAPSHOT_NOTE_SIZE, sizeof(*s->notes),
                           &s->nnotes);
    if (s->nnotes > SNAPSHOT_NOTES) {
        fail(r, "too many notes");
    }
    for (uint32_t i = 0; i < s->nnotes && !r->failed; i++) {
        read_note(r, &note);
        s->notes[i] = note;
    }
}
