#include "comms/link_settings.h"

const struct setting_row link_settings[LINK_SETTINGS_ROWS] = {
    {SETTING_RATE(struct link_options, up_bytes_per_s, "up", "unlimited", "cap of what a worker sends"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_RATE(struct link_options, down_bytes_per_s, "down", "unlimited", "cap of what a worker receives"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_DURATION(struct link_options, latency_us, "latency", "0ms", "one way; for the planner only"),
     .scope = SETTING_SCOPE_NODE},
};
