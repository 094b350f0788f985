package neterror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
)

// What describes a connection is told, and nothing that may quote what was sent.
func TestSafe(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{refused, "connection refused"},
		{&url.Error{Op: "Post", URL: "https://user:hunter2@as.test", Err: refused}, "connection refused"},
		{fmt.Errorf("hunter2: %w", io.ErrUnexpectedEOF), "unexpected EOF"},
		{fmt.Errorf("hunter2: %w", context.DeadlineExceeded), "deadline exceeded"},
		{errors.New("Proxy Authentication Required"), "the proxy answered: Proxy Authentication Required"},
		{errors.New("hunter2"), "an error of type *errors.errorString"},
		{fmt.Errorf("invalid proxy address hunter2: %w", errors.New("hunter2")), "an error of type *fmt.wrapError of *errors.errorString"},
	} {
		if got := Safe(tt.err).Error(); !strings.Contains(got, tt.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
	}
}
