/* settings_text: the tables of base/settings printed as YAML. */
#ifndef ATOLL_BASE_SETTINGS_TEXT_H
#define ATOLL_BASE_SETTINGS_TEXT_H

#include "base/settings.h"

/* settings_text: the effective values, canonical: block style, tables and rows in their order, every key, no comments. Reading it gives
 * the same values. identity_only leaves all but SETTING_SCOPE_RUN out (and sections that hold nothing else). path_base: NULL, or the
 * directory that is put before relative paths. malloc'ed, NUL-terminated; never NULL. */
char *settings_text(const struct settings_schema *schema, const void *target, bool identity_only,
                    const char *path_base);

/* settings_defaults_text: the same of the defaults, with a comment for each section and key: meaning, unit, range, scope. */
char *settings_defaults_text(const struct settings_schema *schema);

#endif
