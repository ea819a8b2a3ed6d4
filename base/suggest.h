/* suggest: "did you mean ...?": the nearest of some known names by edit distance (one swap of neighbours counts as one). */
#ifndef ATOLL_BASE_SUGGEST_H
#define ATOLL_BASE_SUGGEST_H

struct suggestion {
    const char *word;
    const char *nearest; /* NULL as long as nothing was near enough: one or two letters, a third of a long word */
    int distance;
};

/* Example: struct suggestion s = {.word = "alhpa"}; suggest_consider(&s, "alpha"); if (s.nearest) ... */
void suggest_consider(struct suggestion *suggestion, const char *known);

#endif
