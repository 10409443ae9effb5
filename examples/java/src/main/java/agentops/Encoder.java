package agentops;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.avro.message.MessageEncoder;
import org.apache.avro.message.RawMessageEncoder;

/**
 * Writes the records of one topic: a frame that names the schema, then the Avro body.
 *
 * <p>The records come as JSON here. A service would let avro-maven-plugin generate a class for each
 * schema, and give its objects to the same encoder.
 */
final class Encoder {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Schema schema;
    private final byte[] frame;
    private final MessageEncoder<GenericRecord> messages;

    private Encoder(Schema schema, byte[] frame, MessageEncoder<GenericRecord> messages) {
        this.schema = schema;
        this.frame = frame;
        this.messages = messages;
    }

    /**
     * @param name record of the topic, also the name of its schema file
     * @param topic full name of the topic
     * @param registry URL of a schema registry, null for single objects
     */
    static Encoder of(String name, String topic, String registry)
            throws IOException, InterruptedException {
        String text = read(name + ".avsc");
        Schema schema = new Schema.Parser().parse(text);
        GenericData model = GenericData.get();
        if (registry == null) {
            // Writes C3 01 and the schema's fingerprint in front of the body.
            return new Encoder(schema, new byte[0], new BinaryMessageEncoder<>(model, schema));
        }
        int id = register(registry, topic + "-value", text);
        byte[] frame = ByteBuffer.allocate(5).put((byte) 0).putInt(id).array();
        return new Encoder(schema, frame, new RawMessageEncoder<>(model, schema));
    }

    /** Returns the value of a Kafka record; fields with a default may be left out. */
    byte[] encode(JsonNode fields) throws IOException {
        GenericRecordBuilder builder = new GenericRecordBuilder(schema);
        for (Map.Entry<String, JsonNode> each : fields.properties()) {
            Schema.Field field = schema.getField(each.getKey());
            if (field == null) {
                throw new IllegalArgumentException(schema.getName() + " has no " + each.getKey());
            }
            builder.set(field, value(each.getValue(), field.schema()));
        }
        ByteArrayOutputStream value = new ByteArrayOutputStream();
        value.write(frame);
        messages.encode(builder.build(), value);
        return value.toByteArray();
    }

    private static Object value(JsonNode node, Schema schema) {
        return switch (schema.getType()) {
            case UNION -> node.isNull() ? null : value(node, schema.getTypes().get(1));
            case STRING -> node.textValue();
            case ENUM -> new GenericData.EnumSymbol(schema, node.textValue());
            case BOOLEAN -> node.booleanValue();
            case LONG -> node.longValue();
            case DOUBLE -> node.doubleValue();
            case ARRAY -> {
                var items = new GenericData.Array<>(node.size(), schema);
                node.forEach(item -> items.add(value(item, schema.getElementType())));
                yield items;
            }
            default -> throw new IllegalArgumentException("no field is a " + schema.getType());
        };
    }

    private static String read(String file) throws IOException {
        try (InputStream text = Encoder.class.getResourceAsStream("/" + file)) {
            return new String(text.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    /** Registers a schema and returns its id, the same one where the registry has it already. */
    private static int register(String registry, String subject, String schema)
            throws IOException, InterruptedException {
        String path = "/subjects/" + URLEncoder.encode(subject, StandardCharsets.UTF_8) + "/versions";
        String body = JSON.writeValueAsString(Map.of("schema", schema));
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(registry.replaceAll("/+$", "") + path))
                        .timeout(Duration.ofSeconds(10))
                        .header("Content-Type", "application/vnd.schemaregistry.v1+json")
                        .POST(HttpRequest.BodyPublishers.ofString(body))
                        .build();
        HttpResponse<String> answer =
                HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IOException(subject + ": " + answer.statusCode() + " " + answer.body());
        }
        return JSON.readTree(answer.body()).required("id").intValue();
    }
}
