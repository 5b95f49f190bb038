"""What the server does in one step, in its own language. Its clock decides, so that callers on machines agree."""

from __future__ import annotations

# Fixed window.
ALLOW = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local limit, window_ms, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if used + cost > limit then
    local left_ms = redis.call('PTTL', KEYS[1])
    if left_ms < 0 then left_ms = window_ms end
    return {0, math.max(limit - used, 0), left_ms}
end
if used == 0 then
    redis.call('SET', KEYS[1], cost, 'PX', window_ms)
else
    redis.call('INCRBY', KEYS[1], cost)
end
return {1, limit - used - cost, 0}
"""
_NOW = """
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
"""
# A window is named by when it ends.
DRAW = (
    _NOW
    + """
local limit, window_ms, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local want, most, owed, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local state = redis.call('HMGET', KEYS[1], 'ends', 'used')
local ends_ms, used = tonumber(state[1] or '0'), tonumber(state[2] or '0')
if ends_ms <= now_ms then ends_ms, used = now_ms + window_ms, 0 end
if owed > 0 or window == ends_ms then used = math.max(used + owed, 0) end
local left = limit - used
local given = 0
if left >= least then given = math.min(left, math.max(want, math.min(most, math.floor(left / 16)))) end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', ends_ms), 'used', string.format('%.0f', used + given))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends_ms))
return {given, math.max(left - given, 0), ends_ms - now_ms, ends_ms}
"""
)
# One field a holder: its places, and until when it holds them.
HOLD = (
    _NOW
    + """
local holder, limit, least = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most, ttl_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local places, until_ms = string.match(all[i + 1], '(%d+) (%d+)')
    if tonumber(until_ms) <= now_ms then
        redis.call('HDEL', KEYS[1], all[i])
    elseif all[i] ~= holder then
        others = others + tonumber(places)
    end
end
local held = math.max(least, math.min(most, limit - others))
if held > 0 then
    redis.call('HSET', KEYS[1], holder, string.format('%.0f %.0f', held, now_ms + ttl_ms))
    redis.call('PEXPIRE', KEYS[1], ttl_ms)
else
    redis.call('HDEL', KEYS[1], holder)
end
return held
"""
)
