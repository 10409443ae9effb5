package agentops;

import java.io.Reader;
import java.io.StringReader;
import java.util.UUID;

/** Events made up now: codes and pointers, never content. */
final class Demo {
    private Demo() {}

    /** A task that ended now and what a guard saw in it, one line each. */
    static Reader events(String agent) {
        String trace = hex(32);
        String common = """
                "event_id": "%s", "occurred_at": %d, "agent_id": "%s", "trace_id": "%s\"""";
        String task = """
                "task_type": "triage", "outcome": "AUTOMATED", "duration_ms": 1250.0, \
                "cost_usd": 0.0042, "input_tokens": 2000, "output_tokens": 180, \
                "confidence": 0.93, "model": "large-2026-01\"""";
        String seen = """
                "kind": "INJECTION_ATTEMPT", "severity": "MEDIUM", "blocked": true, \
                "detail_code": "INDIRECT_DOCUMENT\"""";
        StringBuilder lines = new StringBuilder();
        for (String[] each : new String[][] {{"tasks", task}, {"security", seen}}) {
            String shared =
                    common.formatted(UUID.randomUUID(), System.currentTimeMillis(), agent, trace);
            String parent = "00-" + trace + "-" + hex(16) + "-01";
            lines.append(
                    """
                    {"topic": "%s", "record": {%s, %s}, "traceparent": "%s"}
                    """.formatted(each[0], shared, each[1], parent));
        }
        return new StringReader(lines.toString());
    }

    private static String hex(int digits) {
        return UUID.randomUUID().toString().replace("-", "").substring(0, digits);
    }
}
