package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// README shows this program, and calls it short.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	lf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }
	_, program, _ = bytes.Cut(lf(program), []byte("\n")) // the package comment
	if !bytes.Contains(lf(readme), append([]byte("```go\n"), program...)) {
		t.Error("README.md does not show examples/minimal/main.go as it is")
	}
	_, body, _ := bytes.Cut(program, []byte("func run(ctx context.Context) error {\n"))
	body, _, _ = bytes.Cut(body, []byte("\n}\n"))
	if n := bytes.Count(body, []byte("\n")) + 1; n > 40 {
		t.Errorf("run has %d lines", n)
	}
}
