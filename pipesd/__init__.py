"""pipesd: a draft model at the edge guesses, a target model in the cloud confirms; the text is the target's."""

__version__ = "0.1.0"
