package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
)

// Encoder returns the value of a Kafka record: a frame that names the schema, then the Avro body.
// Fields with a default may be left out. A service would give it a struct with avro tags.
type Encoder func(record map[string]any) ([]byte, error)

// newEncoders returns an encoder for each topic.
func newEncoders(
	ctx context.Context, folder, prefix, registry string,
) (map[string]Encoder, error) {
	encoders := make(map[string]Encoder)
	for topic, name := range map[string]string{"tasks": "TaskFinished", "security": "SecurityEvent"} {
		text, err := os.ReadFile(filepath.Join(folder, name+".avsc"))
		if err != nil {
			return nil, err
		}
		schema, err := avro.Parse(string(text))
		if err != nil {
			return nil, err
		}
		if registry == "" {
			encoders[topic] = singleObjects(schema)
			continue
		}
		id, err := register(ctx, registry, prefix+topic+"-value", string(text))
		if err != nil {
			return nil, err
		}
		encoders[topic] = registered(schema, id)
	}
	return encoders, nil
}

// singleObjects writes C3 01 and the schema's fingerprint in front of the body.
func singleObjects(schema *avro.Schema) Encoder {
	return func(record map[string]any) ([]byte, error) {
		return schema.AppendSingleObject(nil, record)
	}
}

// registered writes 00 and the schema's id in front of the body.
func registered(schema *avro.Schema, id int) Encoder {
	return func(record map[string]any) ([]byte, error) {
		frame, err := new(sr.ConfluentHeader).AppendEncode(nil, id, nil)
		if err != nil {
			return nil, err
		}
		return schema.AppendEncode(frame, record)
	}
}

// register returns the id of a schema, the same one where the registry has it already.
func register(ctx context.Context, registry, subject, schema string) (int, error) {
	client, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		return 0, err
	}
	found, err := client.CreateSchema(ctx, subject, sr.Schema{Schema: schema})
	return found.ID, err
}
