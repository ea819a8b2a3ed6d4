#include "base/suggest.h"

#include <string.h>

enum { SUGGEST_LETTERS_MAX = 63 };

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Optimal string alignment, three rows at a time. */
static int edit_distance(const char *a, int a_count, const char *b, int b_count) {
    int rows[3][SUGGEST_LETTERS_MAX + 1];
    for (int j = 0; j <= b_count; j++)
        rows[0][j] = j;
    for (int i = 1; i <= a_count; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3];
        const int *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= b_count; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], above2[j - 2] + 1);
        }
    }
    return rows[a_count % 3][b_count];
}

void suggest_consider(struct suggestion *suggestion, const char *known) {
    size_t a = strlen(suggestion->word);
    size_t b = strlen(known);
    if (a == 0 || a > SUGGEST_LETTERS_MAX || b > SUGGEST_LETTERS_MAX)
        return;
    int longer = (int)(a > b ? a : b);
    int limit = longer < 6 ? 1 + (longer > 3) : longer / 3;
    int distance = edit_distance(suggestion->word, (int)a, known, (int)b);
    if (distance > limit || (suggestion->nearest && distance >= suggestion->distance))
        return;
    suggestion->nearest = known;
    suggestion->distance = distance;
}
