/* settings_value: one value of base/settings between its text and its field, by its row. Pure. */
#ifndef ATOLL_BASE_SETTINGS_VALUE_H
#define ATOLL_BASE_SETTINGS_VALUE_H

#include "base/settings.h"

enum { SETTING_VALUE_TEXT_BYTES = 512 };

/* setting_value_read: text -> the row's field inside `section` (the section's struct). Of paths: appends one. False: the field is
 * unchanged and `what` says what is wrong: "'x' is not a whole number from 1 to 64". */
bool setting_value_read(const struct setting_row *row, const char *text, unsigned char *section,
                        char what[SETTING_VALUE_TEXT_BYTES]);

/* "a whole number from 1 to 64 or all" */
void setting_value_expected(const struct setting_row *row, char expected[SETTING_VALUE_TEXT_BYTES]);

/* The same in short, for comments: "1..64 | all"; "" when the doc says it. */
void setting_value_range(const struct setting_row *row, char range[SETTING_VALUE_TEXT_BYTES]);

/* The field's value as YAML that reads back to the same value; of paths item `index`. path_base: NULL, or the directory that is put
 * before relative paths. */
void setting_value_print(const struct setting_row *row, const unsigned char *section, int64_t index,
                         const char *path_base, char *text, size_t text_bytes);

int64_t setting_value_path_count(const struct setting_row *row, const unsigned char *section);
void setting_value_clear_paths(const struct setting_row *row, unsigned char *section);

#endif
