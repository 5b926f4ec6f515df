"""What leaves the house: catalogues of posteriors, and what volunteers are asked."""
