// A collector of profiles in small, with the parser that collectors use: it
// scrapes the URL of its argument, at the same time and one after the other,
// and prints as JSON what a server keeps of the profiles.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

const scrapes = 4

var client = http.Client{Timeout: 30 * time.Second}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// The body, as collectors judge an answer.
func scrape(url string) []byte {
	answer, err := client.Get(url)
	if err != nil {
		fail("%v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		fail("%v", err)
	}
	kind := answer.Header.Get("Content-Type")
	if answer.StatusCode != 200 || kind != "application/octet-stream" {
		fail("%s of %s: %s", answer.Status, kind, body)
	}
	if answer.Uncompressed || !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		fail("the body is not the gzip file itself")
	}
	return body
}

func parse(body []byte) *profile.Profile {
	parsed, err := profile.ParseData(body)
	if err != nil {
		fail("parse: %v", err)
	}
	if err = parsed.CheckValid(); err != nil {
		fail("invalid: %v", err)
	}
	return parsed
}

// How collectors know a stack again: by its addresses and labels.
func stackKey(sample *profile.Sample) string {
	var key strings.Builder
	for _, location := range sample.Location {
		fmt.Fprintf(&key, "%x;", location.Address)
	}
	fmt.Fprint(&key, sample.Label)
	return key.String()
}

// The same by what a person sees.
func nameKey(sample *profile.Sample) string {
	var key strings.Builder
	for _, location := range sample.Location {
		line := location.Line[0]
		fmt.Fprintf(&key, "%s %s %d;", line.Function.Name,
			line.Function.Filename, line.Line)
	}
	fmt.Fprint(&key, sample.Label)
	return key.String()
}

func totals(parsed *profile.Profile) []int64 {
	sums := make([]int64, len(parsed.SampleType))
	for _, sample := range parsed.Sample {
		for i, value := range sample.Value {
			sums[i] += value
		}
	}
	return sums
}

func main() {
	url := os.Args[1]
	bodies := make(chan []byte)
	for i := 0; i < scrapes; i++ {
		go func() { bodies <- scrape(url) }()
	}
	for i := 0; i < scrapes; i++ {
		parse(<-bodies)
	}
	first, second := parse(scrape(url)), parse(scrape(url))

	stacks, names := map[string]*profile.Sample{}, map[string]bool{}
	for _, sample := range first.Sample {
		stacks[stackKey(sample)] = sample
		names[nameKey(sample)] = true
	}
	known, shrunk := 0, []string{}
	for _, sample := range second.Sample {
		before, found := stacks[stackKey(sample)]
		if !found {
			continue
		}
		known++
		// What was ever allocated only grows.
		if sample.Value[0] < before.Value[0] || sample.Value[1] < before.Value[1] {
			shrunk = append(shrunk, nameKey(sample))
		}
	}
	sums := [][]int64{totals(first), totals(second)}
	merged, err := profile.Merge([]*profile.Profile{first, second})
	if err != nil {
		fail("merge: %v", err)
	}
	if err = merged.CheckValid(); err != nil {
		fail("merged: %v", err)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"samples": len(first.Sample), "stacks": len(stacks),
		"names": len(names), "known": known, "shrunk": shrunk,
		"totals": sums, "merged": totals(merged),
		"mergedSamples": len(merged.Sample),
		"period":        first.Period, "periodType": first.PeriodType.Type,
		"default": first.DefaultSampleType, "time": first.TimeNanos,
	})
}
