"""`vattn why`: the facts about one trial, and the texts made of them."""
