package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
)

// setBody gives a request the data of -d, in a way that it can be sent once more after a refresh.
// A file is not held in memory: it may be large.
func (c *cli) setBody(req *http.Request) error {
	switch len(c.data) {
	case 0:
		return nil
	case 1:
	default:
		return usagef("-d is given more than once, and a request has one body")
	}
	text := []byte(c.data[0])
	if name, ok := strings.CutPrefix(c.data[0], "@"); ok {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return setFile(req, name, info.Size())
		}
		var err error
		if text, err = c.readFile(name); err != nil {
			return usagef("-d: %v", err)
		}
	}
	return setReader(req, int64(len(text)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
}

func setFile(req *http.Request, name string, size int64) error {
	err := setReader(req, size, func() (io.ReadCloser, error) { return os.Open(name) })
	if err != nil {
		return usagef("-d: %v", err)
	}
	return nil
}

func setReader(req *http.Request, size int64, open func() (io.ReadCloser, error)) (err error) {
	if size == 0 { // With another body this would mean that the size is unknown.
		return nil
	}
	req.ContentLength, req.GetBody = size, open
	req.Body, err = open()
	return err
}

// readFile reads a file that may be standard input.
func (c *cli) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(c.stdin)
	}
	return os.ReadFile(name)
}
