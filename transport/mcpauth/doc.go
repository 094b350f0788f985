// Package mcpauth keeps a program logged in at MCP servers that it reaches with the official Go
// SDK. The login survives restarts, and agents that run at the same time share it:
//
//	handler, err := mcpauth.New(mcpauth.Config{Cache: cache, Client: provider.Client{Name: "My agent"}})
//	defer handler.Close(ctx)
//	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: address, OAuthHandler: handler}, nil)
//
// It follows the authorization specification of MCP of 2026-07-28: the server says which
// authorization server it trusts (RFC 9728), the program is known there or registers itself, and
// the user logs in, in the browser unless Config.Login says otherwise. When the server moves to
// another authorization server, the user logs in there, which is sent nothing of the old login.
package mcpauth
