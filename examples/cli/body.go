package main

import (
	"bytes"
	"context"
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
		if text, err = c.readFile(req.Context(), name); err != nil {
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
func (c *cli) readFile(ctx context.Context, name string) ([]byte, error) {
	in, err := c.openFile(ctx, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// openFile opens a file that may be standard input. What waits for somebody to write into a pipe,
// in openFile or later, ends with ctx.
func (c *cli) openFile(ctx context.Context, name string) (io.ReadCloser, error) {
	r, w := io.Pipe()
	opened := make(chan error, 1)
	go func() {
		in, err := c.stdin, error(nil)
		if name != "-" {
			in, err = os.Open(name)
		}
		opened <- err
		if err == nil {
			_, err = io.Copy(w, in)
		}
		w.CloseWithError(err)
		if name != "-" {
			in.Close()
		}
	}()
	select {
	case err := <-opened:
		context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
		return r, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
