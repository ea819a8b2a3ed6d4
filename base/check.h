/* check: assertions that stay on in every build. A failed CHECK is our own bug: it prints file, line and text, and aborts.
 * Never use it for what peers, files or the environment say. */
#ifndef ATOLL_BASE_CHECK_H
#define ATOLL_BASE_CHECK_H

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

void check_failed(const char *file, int line, const char *text) __attribute__((noreturn, cold));

#endif
