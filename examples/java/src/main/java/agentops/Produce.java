package agentops;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Produces events of agents, with nothing of the project but its schemas.
 *
 * <pre>
 * mvn -q package
 * java -jar target/produce.jar --bootstrap 127.0.0.1:9092
 * java -jar target/produce.jar --registry http://127.0.0.1:8081 events.jsonl
 * </pre>
 *
 * Without a file it sends one finished task and one security event. A line of a file is
 * {@code {"topic": "tasks", "record": {...}}}, with a W3C {@code traceparent} beside them where
 * there is one.
 */
public final class Produce {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Options options;
    private final Map<String, Encoder> encoders = new HashMap<>();

    private Produce(Options options) throws IOException, InterruptedException {
        this.options = options;
        for (var each : Map.of("tasks", "TaskFinished", "security", "SecurityEvent").entrySet()) {
            String topic = options.prefix() + each.getKey();
            encoders.put(each.getKey(), Encoder.of(each.getValue(), topic, options.registry()));
        }
    }

    public static void main(String[] arguments) throws Exception {
        new Produce(Options.parse(arguments)).run();
    }

    private void run() throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (Producer<String, byte[]> producer = new KafkaProducer<>(settings());
                BufferedReader lines = lines(options.file())) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                sent.add(producer.send(record(JSON.readTree(line))));
            }
        } // closing waits until the broker has them all
        for (Future<RecordMetadata> each : sent) {
            RecordMetadata place = each.get(); // throws where the broker refused it
            if (options.verbose()) {
                System.out.println(place.topic() + " " + place.partition() + " " + place.offset());
            }
        }
        System.out.println("sent " + sent.size() + " records");
    }

    /** The Java client places keys by murmur2: no partitioner needs to be set. */
    private Properties settings() {
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, options.bootstrap());
        settings.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, StringSerializer.class);
        settings.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
        // Both are defaults since 3.0: a send repeated after a lost answer counts once.
        settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true);
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "zstd");
        settings.put(ProducerConfig.LINGER_MS_CONFIG, 20);
        return settings;
    }

    private ProducerRecord<String, byte[]> record(JsonNode event) throws IOException {
        String topic = event.required("topic").textValue();
        JsonNode fields = event.required("record");
        Encoder encoder = encoders.get(topic);
        if (encoder == null) {
            throw new IllegalArgumentException("topic " + topic + ": use tasks or security");
        }
        byte[] value = encoder.encode(fields);
        var record = new ProducerRecord<>(options.prefix() + topic, key(fields), value);
        if (event.hasNonNull("traceparent")) {
            byte[] trace = event.get("traceparent").textValue().getBytes(StandardCharsets.US_ASCII);
            record.headers().add("traceparent", trace);
        }
        return record;
    }

    /** All that concerns an agent must meet in one partition. */
    private static String key(JsonNode fields) {
        String agent = fields.required("agent_id").textValue();
        return fields.hasNonNull("tenant") ? fields.get("tenant").textValue() + "/" + agent : agent;
    }

    private static BufferedReader lines(String file) throws IOException {
        if (file == null) {
            return new BufferedReader(Demo.events("claims-agent"));
        }
        return file.equals("-")
                ? new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))
                : Files.newBufferedReader(Path.of(file));
    }
}
