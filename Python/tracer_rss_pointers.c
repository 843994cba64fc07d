/* Resident memory: the owners of anonymous mappings that nothing else
   explains.

   Allocators inside wheels, such as jemalloc and mimalloc, map their own
   memory and keep its addresses in their data, or in memory to which their
   data lead. So the data of each library are searched for addresses in such
   mappings, and then the mappings that were found this way.  It is a guess,
   though a good one: a library may know an address without owning what is
   there.  Libraries that know everything, like the loader, are searched last.
   */

#include "Python.h"
#include "pycore_tracer_rss.h"

#define BUDGET ((size_t)64 << 20) // bytes searched, at most
#define ENOUGH 256                // parts of the memory: one may be left over
/* Some tables use the highest bits of an address for something else. */
#define ADDRESS_BITS ((UINT64_C(1) << 48) - 1)

struct search {
    struct rss_work *w;
    uint32_t *targets;            // pieces, by address
    uint32_t ntargets;
    uint32_t *found;              // pieces, as they were found
    uint32_t nfound;
    uintptr_t low, high;          // of all targets
    size_t budget;
    uint64_t left;                // pages of the targets not found
};

/* Searching for the last few pages would take as long as for all. */
static int
is_worth_it(const struct search *s)
{
    return s->budget > 0 && s->left > s->w->total / ENOUGH;
}

static struct rss_piece *
find_target(const struct search *s, uintptr_t address, uint32_t *number)
{
    uint32_t low = 0;
    uint32_t high = s->ntargets;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->w->pieces[s->targets[middle]].end <= address) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    if (low == s->ntargets
        || s->w->pieces[s->targets[low]].begin > address)
    {
        return NULL;
    }
    *number = s->targets[low];
    return &s->w->pieces[*number];
}

static void
search_memory(struct search *s, uintptr_t begin, uintptr_t end, uint64_t mask,
              uint32_t name)
{
    struct rss_work *w = s->w;
    while (is_worth_it(s)
           && (begin = _PyTracer_RssNextResident(w, begin, end)) < end)
    {
        size_t size = _PyTracer_RssCopy(w, begin, end, w->buffer);
        const uintptr_t *words = (const uintptr_t *)w->buffer;
        for (size_t i = 0; i < size / sizeof(*words); i++) {
            uintptr_t word = words[i] & (uintptr_t)mask;
            uint32_t number;
            if (word < s->low || word >= s->high) {
                continue;
            }
            struct rss_piece *piece = find_target(s, word, &number);
            if (piece != NULL && piece->kind == RSS_UNEXPLAINED) {
                piece->kind = RSS_MAPPING;
                piece->name = name;
                s->left -= piece->pages;
                s->found[s->nfound++] = number;
            }
        }
        s->budget -= Py_MIN(size, s->budget);
        begin += size == 0 ? w->page : size;
    }
}

static void
search_data(struct search *s, int system)
{
    struct rss_work *w = s->w;
    for (uint32_t i = 0; i < w->npieces; i++) {
        const struct rss_piece *piece = &w->pieces[i];
        const struct rss_range *range = _PyTracer_RssFindRange(w,
                                                               piece->begin);
        if (piece->kind == RSS_DATA && range < w->ranges + w->nranges
            && range->what == RSS_KNOWN_LIBRARY
            && w->libraries[range->number].system == system)
        {
            search_memory(s, piece->begin, piece->end, UINT64_MAX,
                          piece->name);
        }
    }
}

void
_PyTracer_RssFollowPointers(struct rss_work *w)
{
    struct search s = {.w = w, .budget = BUDGET,
                       .targets = (uint32_t *)w->next};
    for (uint32_t i = 0; i < w->npieces; i++) {
        const struct rss_piece *piece = &w->pieces[i];
        if (piece->kind == RSS_UNEXPLAINED && piece->pages > 0) {
            s.low = s.ntargets == 0 ? piece->begin : s.low;
            s.high = piece->end;
            s.targets[s.ntargets++] = i;
            s.left += piece->pages;
        }
    }
    s.found = s.targets + s.ntargets;
    uint32_t next = 0;
    for (int system = 0; w->mem >= 0 && system <= 1; system++) {
        search_data(&s, system);
        for (; next < s.nfound; next++) {
            const struct rss_piece *piece = &w->pieces[s.found[next]];
            search_memory(&s, piece->begin, piece->end, ADDRESS_BITS,
                          piece->name);
        }
    }
}
