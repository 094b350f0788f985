package redisstore

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// A URL holds a password, and it is not always clear where that begins and ends. So no part of
// a URL is printed.

// String returns the configuration without its address.
func (c Config) String() string {
	url := "none"
	if c.URL != "" {
		url = "[redacted]"
	}
	return fmt.Sprintf("redisstore.Config{URL: %s, Client: %t, Prefix: %q, Lease: %v, Replicas: %d, Expiry: %v, Name: %q}",
		url, c.Client != nil, c.Prefix, c.Lease, c.Replicas, c.Expiry, c.Name)
}

// Format implements fmt.Formatter with String, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue implements slog.LogValuer with String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON implements json.Marshaler with String.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// Format implements fmt.Formatter, and shows only the prefix.
func (s *Store) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "redisstore.Store{%q}", s.cfg.Prefix) }
