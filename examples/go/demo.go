package main

import (
	"crypto/rand"
	"fmt"
	"time"
)

// demo returns a task that ended now and what a guard saw in it: codes and pointers, no content.
func demo(agent string) string {
	trace := random(16)
	line := func(topic, fields string) string {
		return fmt.Sprintf(
			`{"topic": %q, "traceparent": "00-%s-%s-01", "record": {`+
				`"event_id": %q, "occurred_at": %d, "agent_id": %q, "trace_id": %q, %s}}`+"\n",
			topic, trace, random(8),
			random(16), time.Now().UnixMilli(), agent, trace, fields,
		)
	}
	return line("tasks", `"task_type": "triage", "outcome": "AUTOMATED", "duration_ms": 1250.0,
		"cost_usd": 0.0042, "input_tokens": 2000, "output_tokens": 180, "confidence": 0.93,
		"model": "large-2026-01"`) +
		line("security", `"kind": "INJECTION_ATTEMPT", "severity": "MEDIUM", "blocked": true,
		"detail_code": "INDIRECT_DOCUMENT"`)
}

// random returns that many random bytes in hex.
func random(bytes int) string {
	some := make([]byte, bytes)
	rand.Read(some) // never fails
	return fmt.Sprintf("%x", some)
}
