package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"golang.org/x/oauth2"
)

// before is the program with x/oauth2: a file with the token, and the care to write it again
// once it has been renewed.
func before(ctx context.Context, conf *oauth2.Config, path, url string) (*http.Response, error) {
	tok, err := readToken(path)
	if err != nil {
		return nil, err
	}
	source := conf.TokenSource(ctx, tok)
	resp, err := oauth2.NewClient(ctx, source).Get(url)
	if err != nil {
		return nil, err
	}
	if tok, err = source.Token(); err == nil {
		err = writeToken(path, tok) // Until here, the new refresh token is nowhere but in memory.
	}
	if err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

func readToken(path string) (*oauth2.Token, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tok := new(oauth2.Token)
	return tok, json.Unmarshal(data, tok)
}

func writeToken(path string, tok *oauth2.Token) error {
	data, err := json.Marshal(tok)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
