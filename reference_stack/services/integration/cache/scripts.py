"""What the server does in one step, in its own language. Its clock decides, so that callers on machines agree."""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
"""
# Both take one text and answer with one: a client takes longer over many values than over a long one.
_WORDS = """
local words = string.gmatch(ARGV[1], '[^ ]+')
local function number() return tonumber(words()) end
"""
# Sliding windows, one a key, in parts that are named by when they end: see window.py, which says the same in Python.
# Beside the parts, `born` says since when the key is there: who drew before knows that what it drew is forgotten.
DRAW = (
    _NOW
    + _WORDS
    + """
local answers = {}
for i, key in ipairs(KEYS) do
    local limit, window_ms, least, want, most = number(), number(), number(), number(), number()
    local owed, returned = number(), number()
    local parts, used, born = {}, 0, 0
    local kept = redis.call('HGETALL', key)
    for j = 1, #kept, 2 do
        local ends = tonumber(kept[j])
        if not ends then
            born = tonumber(kept[j + 1])
        elseif ends + window_ms <= now_ms then
            redis.call('HDEL', key, kept[j])
        else
            parts[ends] = tonumber(kept[j + 1])
        end
    end
    local changed = {}
    for _ = 1, returned do
        local ends, amount = number(), number()
        if parts[ends] then
            parts[ends] = math.max(parts[ends] - amount, 0)
            changed[ends] = true
        end
    end
    for _, count in pairs(parts) do used = used + count end
    local left = limit - used - owed
    local given = 0
    if left >= least then given = math.min(left, math.max(want, math.min(most, math.floor(left / 16)))) end
    local part_ms = math.max(math.floor(window_ms / 60), 1)
    local ends = (math.floor((now_ms + math.floor(part_ms / 4)) / part_ms) + 1) * part_ms
    if given + owed > 0 then
        parts[ends] = (parts[ends] or 0) + given + owed
        changed[ends] = true
        if born == 0 then
            born = now_ms
            redis.call('HSET', key, 'born', string.format('%.0f', born))
        end
    end
    local names, whole_ms = {}, 0
    for name, count in pairs(parts) do
        table.insert(names, name)
        if count > 0 then whole_ms = math.max(whole_ms, name + window_ms - now_ms) end
    end
    local retry_ms = 0
    if given == 0 then
        retry_ms = window_ms
        table.sort(names)
        local free = limit
        for _, name in ipairs(names) do free = free - parts[name] end
        for _, name in ipairs(names) do
            free = free + parts[name]
            if free >= least then
                retry_ms = name + window_ms - now_ms
                break
            end
        end
    end
    for name in pairs(changed) do
        redis.call('HSET', key, string.format('%.0f', name), string.format('%.0f', parts[name]))
    end
    if whole_ms > 0 then redis.call('PEXPIRE', key, string.format('%.0f', whole_ms)) end
    answers[i] = string.format(
        '%.0f %.0f %.0f %.0f %.0f %.0f %.0f',
        given, math.max(left - given, 0), ends - now_ms, ends, retry_ms, whole_ms, born)
end
return table.concat(answers, ' ')
"""
)
# One field a holder: its places, and until when it holds them.
HOLD = (
    _NOW
    + _WORDS
    + """
local answers = {}
for i, key in ipairs(KEYS) do
    local holder, limit, least, most, ttl_ms = words(), number(), number(), number(), number()
    local others = 0
    local all = redis.call('HGETALL', key)
    for j = 1, #all, 2 do
        local places, until_ms = string.match(all[j + 1], '(%d+) (%d+)')
        if tonumber(until_ms) <= now_ms then
            redis.call('HDEL', key, all[j])
        elseif all[j] ~= holder then
            others = others + tonumber(places)
        end
    end
    local held = math.max(least, math.min(most, limit - others))
    if held > 0 then
        redis.call('HSET', key, holder, string.format('%.0f %.0f', held, now_ms + ttl_ms))
        redis.call('PEXPIRE', key, ttl_ms)
    else
        redis.call('HDEL', key, holder)
    end
    answers[i] = string.format('%.0f', held)
end
return table.concat(answers, ' ')
"""
)
