"""What `fetch` gets over the network: the only room that asks for a file there."""
