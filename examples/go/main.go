// Produce sends events of agents, with nothing of the project but its schemas.
//
//	go run . --bootstrap 127.0.0.1:9092
//	go run . --registry http://127.0.0.1:8081 events.jsonl
//
// Without a file it sends one finished task and one security event. A line of a file is
// {"topic": "tasks", "record": {...}}, with a W3C traceparent beside them where there is one.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Event is one line of the input.
type Event struct {
	Topic       string         `json:"topic"`
	Record      map[string]any `json:"record"`
	Traceparent string         `json:"traceparent"`
}

// Key returns the key: all that concerns an agent must meet in one partition.
func (e Event) Key() string {
	if tenant, ok := e.Record["tenant"].(string); ok {
		return fmt.Sprintf("%s/%s", tenant, e.Record["agent_id"])
	}
	return fmt.Sprint(e.Record["agent_id"])
}

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:9092", "host:port of the broker")
	prefix := flag.String("prefix", "agentops.", "topic prefix")
	registry := flag.String("registry", "", "URL of a schema registry; none: single objects")
	schemas := flag.String("schemas", "../../schemas", "folder of the schemas")
	verbose := flag.Bool("verbose", false, "print topic, partition, offset")
	flag.Parse()

	encoders, err := newEncoders(context.Background(), *schemas, *prefix, *registry)
	if err != nil {
		log.Fatal(err)
	}
	events, err := open(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(*bootstrap, ",")...),
		// The defaults are right: keys placed by murmur2 as in Java, acks=all, idempotent, so
		// that a send repeated after a lost answer counts once.
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.ProducerLinger(20*time.Millisecond),
		kgo.RecordDeliveryTimeout(2*time.Minute), // by default it tries for ever
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	lines := json.NewDecoder(events)
	lines.UseNumber() // a long stays a long
	sent, err := produce(context.Background(), client, *verbose, func() (*kgo.Record, error) {
		var event Event
		if err := lines.Decode(&event); err != nil {
			return nil, err
		}
		return event.Encode(*prefix, encoders)
	})
	fmt.Printf("sent %d records\n", sent)
	if err != nil {
		log.Fatal(err)
	}
}

// Encode returns the Kafka record of an event.
func (e Event) Encode(prefix string, encoders map[string]Encoder) (*kgo.Record, error) {
	encode, ok := encoders[e.Topic]
	if !ok {
		return nil, fmt.Errorf("topic %q: use tasks or security", e.Topic)
	}
	value, err := encode(e.Record)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", e.Record["event_id"], err)
	}
	record := &kgo.Record{Topic: prefix + e.Topic, Key: []byte(e.Key()), Value: value}
	if e.Traceparent != "" {
		header := kgo.RecordHeader{Key: "traceparent", Value: []byte(e.Traceparent)}
		record.Headers = append(record.Headers, header)
	}
	return record, nil
}

// produce sends all records up to io.EOF and waits until the broker has them.
func produce(
	ctx context.Context, client *kgo.Client, verbose bool, next func() (*kgo.Record, error),
) (sent int, err error) {
	var refused error
	delivered := func(record *kgo.Record, err error) { // called one at a time
		if err != nil {
			refused = err
			return
		}
		sent++
		if verbose {
			fmt.Println(record.Topic, record.Partition, record.Offset)
		}
	}
	for err == nil {
		var record *kgo.Record
		if record, err = next(); err == nil {
			client.Produce(ctx, record, delivered)
		}
	}
	flushed := client.Flush(ctx)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return sent, errors.Join(err, flushed, refused)
}

// open returns a file, stdin for "-", or two events made up now.
func open(file string) (io.ReadCloser, error) {
	switch file {
	case "":
		return io.NopCloser(strings.NewReader(demo("claims-agent"))), nil
	case "-":
		return os.Stdin, nil
	}
	return os.Open(file)
}
