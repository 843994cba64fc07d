/* A tree of classes in which a list of a million links is not a million levels
   deep. If `A B` is followed by `A B` again and again, the second `B` becomes
   the first one. That is, if the classes from a branch upward repeat those
   above them, the branch is replaced by the one a period above. */

#include "graph.h"

#define MOST_PERIOD 6

int
_PySnapshot_TrieInit(struct snapshot_trie *trie)
{
    *trie = (struct snapshot_trie){.n = 0};
    if (_PySnapshot_PairsInit(&trie->pairs) < 0
        || _PySnapshot_Reserve(&trie->branches, &trie->branches_size, 1,
                               sizeof(*trie->branches)) < 0)
    {
        return -1;
    }
    trie->branches[trie->n++] = (struct snapshot_branch){
        SNAPSHOT_NONE, SNAPSHOT_NONE, 0};
    return 0;
}

void
_PySnapshot_TrieFree(struct snapshot_trie *trie)
{
    _PySnapshot_PairsFree(&trie->pairs);
    _PySnapshot_Release(trie->entries);
    _PySnapshot_Release(trie->branches);
}

/* The branch that a class below `parent` repeats, or NONE. */
static uint32_t
find_repeated(const struct snapshot_trie *trie, uint32_t parent,
              uint32_t class_)
{
    const struct snapshot_branch *branches = trie->branches;
    uint32_t above = parent;      // by a period
    for (int period = 1; period <= MOST_PERIOD && above != 0; period++) {
        int same = branches[above].class_ == class_;
        uint32_t a = parent;
        uint32_t b = branches[above].parent;
        for (int i = 1; i < period && same; i++) {
            same = b != 0 && branches[a].class_ == branches[b].class_;
            a = branches[a].parent;
            b = b == 0 ? 0 : branches[b].parent;
        }
        if (same) {
            return above;
        }
        above = branches[above].parent;
    }
    return SNAPSHOT_NONE;
}

uint32_t
_PySnapshot_Branch(struct snapshot_trie *trie, uint32_t parent,
                   uint32_t class_)
{
    uint32_t known = trie->pairs.used;
    assert(parent < trie->n && class_ != SNAPSHOT_NONE);
    uint32_t entry = _PySnapshot_Pair(&trie->pairs, parent, class_);
    if (entry == SNAPSHOT_NONE) {
        return SNAPSHOT_NONE;
    }
    if (entry != known) {
        return trie->entries[entry];
    }
    if (_PySnapshot_Reserve(&trie->entries, &trie->entries_size, entry + 1,
                            sizeof(*trie->entries)) < 0
        || _PySnapshot_Reserve(&trie->branches, &trie->branches_size,
                               trie->n + 1, sizeof(*trie->branches)) < 0)
    {
        return SNAPSHOT_NONE;
    }
    uint32_t branch = find_repeated(trie, parent, class_);
    if (branch != SNAPSHOT_NONE) {
        trie->branches[branch].repeats = 1;
    }
    else {
        branch = trie->n++;
        trie->branches[branch] = (struct snapshot_branch){parent, class_, 0};
    }
    trie->entries[entry] = branch;
    return branch;
}
